"""What a model hears in recordings, kept on disk: for search by example, and to choose clips by."""
