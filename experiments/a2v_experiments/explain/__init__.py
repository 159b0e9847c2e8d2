"""What a model has learned, as figures."""
