"""Reuse pretrained layers: restore them, freeze them, compute them once, train the rest."""
