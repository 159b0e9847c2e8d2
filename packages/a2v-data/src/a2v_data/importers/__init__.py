"""Published corpora, from the archives as they are downloaded to a source folder: audio/, annotations.csv, README.md.

The recordings stay as they were published, whole and at their own rate. `a2v data prepare` then resamples them (Kaiser
window, over the whole recording), cuts them into segments that do not overlap, and pads the last one with zeros.
"""
