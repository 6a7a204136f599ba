"""What `predict` reads, and what its answers are, task by task."""
