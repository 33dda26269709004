"""The shapes that are measured, in the order of the table, and what of them is compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """How many load processes do what, with how many messages outstanding each."""

    key: str
    name: str
    how: str
    """ours, stock and limit: in this environment; else the module in benchmarks/bench/peers."""
    shape: str
    processes: int
    outstanding: int = 1
    size: int = 1
    """Operations in one message or transaction."""
    own: bool = False
    """Whether each writer has a session of its own, as far as there are so many; else any at random."""


SHAPES = (
    Shape("one", "session.update, one outstanding", "ours", "update", 1),
    Shape("stock-noop", "stock Celery no-op, one outstanding", "stock", "noop", 1),
    Shape("stock-one", "stock Celery bare statement, one outstanding", "stock", "update", 1),
    Shape("many", "session.update, 8 clients x 32", "ours", "update", 8, 32),
    Shape("stock-many", "stock Celery bare statement, 8 clients x 32", "stock", "update", 8, 32),
    Shape("stock-full", "stock Celery statement and pipeline, 8 clients x 32", "stock", "publish", 8, 32),
    Shape("apply-10", "session.apply of 10, 2 clients x 4", "ours", "apply", 2, 4, 10),
    Shape("apply-100", "session.apply of 100, 2 clients x 4", "ours", "apply", 2, 4, 100),
    Shape("read", "session.get by a worker, 2 clients x 16", "ours", "read", 2, 16),
    Shape("get", "fleet.get from the cache, 2 clients x 16", "ours", "get", 2, 16),
    Shape("limit-1", "bare Python, 1 a transaction, 2 processes", "limit", "limit", 2),
    Shape("limit-10", "bare Python, 10 a transaction, 2 processes", "limit", "limit", 2, size=10),
    Shape("limit-100", "bare Python, 100 a transaction, 2 processes", "limit", "limit", 2, size=100),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The rate (or, with ``of``, another figure) of one shape over that of another, by keys; the bar is the
    least, or with ``at_most`` the greatest, that issue 4 asks for."""

    text: str
    one: str
    other: str
    bar: float | None = None
    of: str = "rate"
    at_most: bool = False


RATIOS = (
    Ratio("8 x 32 against stock Celery doing the same", "many", "stock-full", 10.0),
    Ratio("8 x 32 against stock Celery, bare statement", "many", "stock-many"),
    Ratio("one outstanding: p50 against stock Celery's no-op", "one", "stock-noop", 1.0, "p50_ms", at_most=True),
    Ratio("8 x 32 against bare Python", "many", "limit-1"),
    Ratio("apply of 10 against bare Python", "apply-10", "limit-10", 0.40),
    Ratio("apply of 100 against bare Python", "apply-100", "limit-100", 0.55),
)

LATENCY = ("8 x 32: p99", "many", 60.0)
"""Text, shape and the most that issue 4 allows, in ms."""
