"""Networks as plain data, read from their files, and written as PyTorch source."""
