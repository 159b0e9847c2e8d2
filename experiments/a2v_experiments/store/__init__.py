"""The tracking store: runs, claims, outages, models."""
