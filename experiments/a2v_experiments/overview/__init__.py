"""What there is and what would run: plans, lists, comparisons."""
