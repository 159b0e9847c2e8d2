"""Model cards: what a model was trained on, how good it is on what, and how to make it again."""
