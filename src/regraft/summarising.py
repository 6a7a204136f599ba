"""Gathers what the steps gave into the record that the report shows."""
