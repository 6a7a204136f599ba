"""What every step uses and what knows no model: words, patterns of names, files, progress."""
