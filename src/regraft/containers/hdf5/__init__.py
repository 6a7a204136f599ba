"""HDF5, read without its library: one file for each structure of its file format."""
