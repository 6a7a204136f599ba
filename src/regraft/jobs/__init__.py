"""The job file: its sections, its errors, and the models that it names."""
