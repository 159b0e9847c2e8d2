"""Measurements of speed, and of detectors side by side."""
