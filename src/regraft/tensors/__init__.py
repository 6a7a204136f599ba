"""Tensors in nested structures, and the digests that name them."""
