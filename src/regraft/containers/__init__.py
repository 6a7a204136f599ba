"""Files that hold bytes and know no framework: archives, pickles, protocol buffers, HDF5 and the like."""
