"""Data sets: one file for each form of examples on disk."""
