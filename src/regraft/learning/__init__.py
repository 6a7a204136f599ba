"""What training is made of: learners, losses, steps eager and traced, the exact solver."""
