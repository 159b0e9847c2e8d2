"""Bioacoustic corpora: annotations, preparation, packed storage, folds, between-classes mixing, synthesis."""
