"""TIME: the entries of RedBeat as plain data."""
