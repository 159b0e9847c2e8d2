"""One training, in this process or on workers."""
