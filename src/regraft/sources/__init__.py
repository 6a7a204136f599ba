"""Data of other libraries as examples: a file for each library, with labels and ids known without reading an input."""
