"""Feature stores: one file for each place where features can live; `store.py` is their contract."""
