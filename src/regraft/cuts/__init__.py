"""How a model is split: one forward recorded, the cheapest cut chosen, trunk and head replayed and proven."""
