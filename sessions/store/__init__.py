"""All SQL of the write path: the loader and the writer, for one operation or many."""
