"""Tables of events against tables of events."""
