"""How many layers to reuse: where a model can be cut, what a linear head reaches there, and how that is said."""
