"""A person who checks predictions: what is shown, what was decided, and what follows from it."""
