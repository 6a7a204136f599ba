"""Formats in which a trained model leaves regraft: a file for each; `Exported` is what they are given."""
