"""``python -m tests.chaos.skewed_clock SECONDS ARGUMENTS``: ``celery ARGUMENTS`` with a wall clock that is wrong.

Only what Python asks is wrong: ``time.time`` and the present of ``datetime``, replaced before anything else is
imported. Clocks that only go forward (``time.monotonic``) and the servers' own clocks stay right.
"""

import datetime as dt
import sys
import time

Real = dt.datetime
AHEAD = float(sys.argv[1])


class _LooksReal(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, Real)


class Skewed(Real, metaclass=_LooksReal):
    """``datetime`` with another present."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Real:
        return Real.now(tz) + dt.timedelta(seconds=AHEAD)

    @classmethod
    def utcnow(cls) -> Real:
        return Real.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=AHEAD)


def main() -> None:
    """Becomes the worker."""
    real_time, real_time_ns = time.time, time.time_ns
    time.time = lambda: real_time() + AHEAD
    time.time_ns = lambda: real_time_ns() + int(AHEAD * 1e9)
    dt.datetime = Skewed  # type: ignore[misc]
    from celery.__main__ import main as celery

    sys.argv[:] = ["celery", *sys.argv[2:]]
    celery()


if __name__ == "__main__":
    main()
