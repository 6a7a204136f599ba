"""How a model is split. Read in this order: recording, dataflow, choosing, program, proving."""
