"""ENTRY: the composition root, the processes, the command line."""
