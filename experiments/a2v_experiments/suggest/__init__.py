"""A recipe that fits a corpus."""
