"""The broker channel and the guard against malformed messages; knows nothing of sessions."""
