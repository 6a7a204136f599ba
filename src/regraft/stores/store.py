"""The contract of a feature store: where the cut's values live, one row per example."""
