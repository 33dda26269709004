"""What follows the commit of operations that ran together: cache, hint and answers, in one round trip if possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fanout.cache import Cacheable, DocumentCache
from fanout.script import Call
from tasks.runtime import Answer
from workers.settings_urls import redis_database, with_redis_database


class Answers(Protocol):
    """As :meth:`workers.results.AnswerBackend.answer`."""

    def __call__(self, answers: Sequence[Answer], before: Sequence[Call] = (), /) -> None: ...


class Delivery:
    """See :class:`tasks.runtime.Answering`. Where cache and answers are databases of one server, the documents
    travel with the answers; else each has its own round trip, and neither waits for the other's outage."""

    def __init__(self, answer: Answers, cache: DocumentCache, *, cache_url: str, result_url: str) -> None:
        self._answer = answer
        self._cache = cache
        same = with_redis_database(cache_url, 0) == with_redis_database(result_url, 0)
        self._database = (redis_database(cache_url) or 0) if same else None

    def __call__(self, answers: Sequence[Answer], documents: Sequence[Cacheable], /) -> None:
        if self._database is not None and documents and answers:
            putting = self._cache.putting(documents, hint=True, database=self._database)
            self._answer(answers, [putting] if putting else [])
            return
        if documents:
            self._cache.put(documents, hint=True)
        if answers:
            self._answer(answers)
