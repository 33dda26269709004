"""The shapes that are measured, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """How many load processes do what, with how many messages outstanding each."""

    name: str
    how: str
    shape: str
    processes: int
    outstanding: int = 1
    size: int = 1


SHAPES = (
    Shape("session.update, one outstanding", "ours", "update", 1),
    Shape("stock Celery no-op, one outstanding", "stock", "noop", 1),
    Shape("stock Celery bare statement, one outstanding", "stock", "update", 1),
    Shape("session.update, 8 clients x 32", "ours", "update", 8, 32),
    Shape("stock Celery bare statement, 8 clients x 32", "stock", "update", 8, 32),
    Shape("session.apply of 10, 2 clients x 4", "ours", "apply", 2, 4, 10),
    Shape("session.apply of 100, 2 clients x 4", "ours", "apply", 2, 4, 100),
    Shape("session.get by a worker, 2 clients x 16", "ours", "read", 2, 16),
    Shape("fleet.get from the cache, 2 clients x 16", "ours", "get", 2, 16),
    Shape("bare Python, 1 a transaction, 2 processes", "limit", "limit", 2),
    Shape("bare Python, 10 a transaction, 2 processes", "limit", "limit", 2, size=10),
    Shape("bare Python, 100 a transaction, 2 processes", "limit", "limit", 2, size=100),
)

RATIOS = (
    ("8 x 32 against stock Celery", 3, 4),
    ("8 x 32 against bare Python", 3, 9),
    ("apply of 10 against bare Python", 5, 10),
    ("apply of 100 against bare Python", 6, 11),
)
"""What is compared: text, place of one shape, place of the other."""
