"""Audit chain, partitions, replay, time travel, exports, retention."""
