"""Waiting for something that another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 60, every: float = 0.02) -> T:
    """The first truthy answer of ``predicate``, asked every ``every`` seconds.

    AssertionError with the last answer after ``timeout`` seconds: patience costs nothing where things work, so
    leave it as it is unless it has to be longer. An AssertionError of the predicate counts as "not yet" and is
    raised when time is over; other errors pass through at once.
    """
    until = time.monotonic() + timeout
    while True:
        failure = None
        answer = None
        try:
            answer = predicate()
            if answer:
                return answer
        except AssertionError as error:
            failure = error
        if time.monotonic() >= until:
            if failure is not None:
                raise failure
            raise AssertionError(f"not within {timeout} s; the last answer was {answer!r}")
        time.sleep(every)
