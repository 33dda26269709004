"""Which round trips follow a commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis

from fanout.cache import DocumentCache
from fanout.keys import HINT
from fanout.script import Call
from tasks.runtime import Answer
from workers.delivery import Delivery

DOCUMENT = {"id": "s-1", "revision": 1}
ANSWER = Answer("t-1", {}, None, "_fleet.reply.c")


class Trips(DocumentCache):
    """A cache and a backend that note what is sent, each line a round trip."""

    def __init__(self) -> None:
        super().__init__(Redis(), 600)
        self.made: list[str] = []

    def put(self, documents: Any, *, hint: bool = False) -> int:
        self.made.append(f"documents{' and hint' if hint else ''}")
        return 0

    def answer(self, answers: Sequence[Answer], before: Sequence[Call] = (), /) -> None:
        told = [f"documents{hint_of(call)} in {call.arguments[0]}" for call in before]
        self.made.append(" and ".join([*told, "answers"]))


def hint_of(call: Call) -> str:
    return " and hint" if HINT in call.keys else ""


@pytest.mark.parametrize(
    ("cache", "result", "made"),
    [
        ("redis://:word@one:6379/1", "redis://:word@one:6379/3", ["documents and hint in 1 and answers"]),
        ("redis://one:6379", "redis://one:6379/3", ["documents and hint in 0 and answers"]),
        ("redis://one:6379/1", "redis://two:6379/3", ["documents and hint", "answers"]),
        ("redis://one:6379/1", "rediss://one:6379/3", ["documents and hint", "answers"]),
    ],
)
def test_one_round_trip_on_one_server(cache: str, result: str, made: list[str]) -> None:
    trips = Trips()
    Delivery(trips.answer, trips, cache_url=cache, result_url=result)([ANSWER], [DOCUMENT])
    assert trips.made == made


def test_only_what_there_is() -> None:
    trips = Trips()
    deliver = Delivery(trips.answer, trips, cache_url="redis://one/1", result_url="redis://one/3")
    deliver([], [])
    deliver([ANSWER], [])
    deliver([], [DOCUMENT])
    assert trips.made == ["answers", "documents and hint"]
