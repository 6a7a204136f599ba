"""Readers: one file for each checkpoint format; `format.py` is their contract."""
