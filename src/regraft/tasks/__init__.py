"""What a model's outputs mean: one file for each kind of task, `task.py` is the contract."""
