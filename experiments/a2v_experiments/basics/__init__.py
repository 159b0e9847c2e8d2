"""What every room uses: errors, tables, progress, fingerprints, signals."""
