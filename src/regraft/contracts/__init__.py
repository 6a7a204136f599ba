"""How inputs are prepared that are no images: texts, sounds and numbers, and all kinds together."""
