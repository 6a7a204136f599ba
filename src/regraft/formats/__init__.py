"""Readers: one file for each framework's checkpoint format; `format.py` is their contract, `readers.py` their list."""
