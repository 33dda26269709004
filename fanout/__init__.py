"""The Redis side: keys, document cache, streams, pub/sub and their scripts."""
