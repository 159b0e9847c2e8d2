"""The stages of an experiment, and the experiment."""
