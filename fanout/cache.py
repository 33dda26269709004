"""The document cache: write-through copies of committed session documents (rows B-10, B-11, B-12).

PostgreSQL is the truth; the cache may lose anything at any time. What it promises: an older document never
replaces a newer one, whatever the order in which writers arrive; a corrupt entry is a miss and goes alone;
with Redis away every call returns quickly with "nothing", never with an error.

An entry is a JSON string that begins with ``{"revision":N,"last_seq":M,``, so that Lua can compare without
parsing a megabyte. Two entries are no documents: a deleted session's mark, which no later write of that
session passes, and the relay's stale mark (``"stale":true``), left where an event is newer than the cached
document: it counts as a miss and refuses documents from before that event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from fanout.breaker import Breaker, breaker_of
from fanout.keys import HINT, document_key, external_key
from fanout.script import Call, Script
from sessionfleet.jsontext import encode
from sessionfleet.words import OWN_NAME

log = logging.getLogger(__name__)

Document = dict[str, Any]
T = TypeVar("T")

_LAST = 9007199254740991
"""A revision beyond all others: the largest whole number that Lua tells from the next."""

DELETED = f'{{"revision":{_LAST},"deleted":true}}'

_put, _get = Script("put_documents"), Script("get_documents")


class Found(NamedTuple):
    """Documents by session id; of how many of the wanted ids, from the first on, the cache was asked; bytes read."""

    documents: dict[str, Document]
    looked_at: int
    size: int


class Cacheable(Protocol):
    """A document that has a JSON text: a mapping, or the text itself with the fields by which it is filed."""

    def __getitem__(self, name: str, /) -> Any: ...
    def get(self, name: str, /) -> Any: ...


class DocumentCache:
    """Documents by session id or external id; thread-safe, made after a fork.

    ``ttl``: life of an entry in seconds, renewed by every write (cache_ttl). ``fields``: names a document
    must have; an entry that lacks one was written by another release and counts as corrupt. The client
    should be one of :func:`fanout.connection.connect` with the timeout ``HASTY``.
    """

    def __init__(
        self, client: Redis, ttl: int, *, fields: Collection[str] = (), breaker: Breaker | None = None
    ) -> None:
        self.client = client
        self.ttl = ttl
        self.breaker = breaker or breaker_of(client)
        self._fields = frozenset(fields)

    def put(self, documents: Iterable[Cacheable], *, hint: bool = False) -> int:
        """Caches each document unless a newer one (by ``revision``) is there; answers how many were stored.

        A document begins with ``revision`` and, where it has one, ``last_seq``, and needs ``id``; ``external_id`` is
        used when present. Of one with a ``deleted_at`` a mark is left that no late writer passes, for five minutes,
        and its external id is forgotten.
        One round trip for all of them. ``hint``: the relay is told in the same; any number of hints before it looks
        are one.
        """
        call = self.putting(documents, hint=hint)
        return 0 if call is None else self._guarded(lambda: int(call.script.run(self.client, *call[1:])), 0)

    def putting(
        self, documents: Iterable[Cacheable], *, hint: bool = False, database: int | None = None
    ) -> Call | None:
        """The call that :meth:`put` makes, for somebody who makes it together with others; None for nothing to do.
        ``database``: the number of the cache's, for a connection to another one of the same server."""
        keys: list[str] = []
        arguments: list[Any] = []
        for document in documents:
            try:
                added = self._arguments(document)
            except (TypeError, ValueError, KeyError):  # the write is committed: its answer must not fail now
                log.exception("a document cannot be cached", extra={"session_id": str(document.get("id"))})
                continue
            external_id = document.get("external_id")
            if external_id == OWN_NAME + document["id"]:
                external_id = None  # it says itself where to look
            keys += [document_key(document["id"]), external_key(external_id) if external_id else ""]
            arguments += added
        if not keys and not hint:
            return None
        count = len(keys) // 2
        if hint:
            keys.append(HINT)
        return Call(_put, keys, ["" if database is None else database, self.ttl, count, *arguments])

    def get(self, session_id: str) -> Document | None:
        """The cached document of a session, or None: not cached, deleted, corrupt, or Redis is away."""
        return self._guarded(lambda: self._read(session_id), None)

    def find(self, reference: str) -> Document | None:
        """As :meth:`get`, by id or external id (Q-01)."""
        return self._guarded(lambda: self._find(reference), None)

    def get_many(self, session_ids: Iterable[str], most: int) -> Found:
        """The cached documents among these sessions in one round trip, until they have about ``most`` bytes; one
        always fits. What is missing is a miss."""
        wanted = list(dict.fromkeys(session_ids))
        nothing = Found({}, len(wanted), 0)
        return self._guarded(lambda: self._read_many(wanted, most), nothing) if wanted else nothing

    def drop(self, session_id: str) -> None:
        """Forgets one entry; the next read fetches it from PostgreSQL."""
        self._guarded(lambda: self.client.unlink(document_key(session_id)), 0)

    def _arguments(self, document: Cacheable) -> list[Any]:
        session_id, revision, last_seq = document["id"], int(document["revision"]), document.get("last_seq")
        if document.get("deleted_at") is not None:
            return [_LAST, "", DELETED, session_id]
        return [revision, "" if last_seq is None else int(last_seq), encode(document), session_id]

    def _read(self, session_id: str) -> Document | None:
        key = document_key(session_id)
        try:
            raw = self.client.get(key)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            raw = b""
        return self._checked(session_id, raw)

    def _read_many(self, session_ids: list[str], most: int) -> Found:
        texts = _get.run(self.client, [document_key(each) for each in session_ids], [most])
        checked = ((each, self._checked(each, raw)) for each, raw in zip(session_ids, texts, strict=False))
        documents = {session_id: document for session_id, document in checked if document is not None}
        return Found(documents, len(texts), sum(len(raw) for raw in texts if raw is not None))

    def _find(self, reference: str) -> Document | None:
        document = self._read(reference.removeprefix(OWN_NAME))
        if document and reference in (document["id"], document.get("external_id")):
            return document
        raw = self.client.mget([external_key(reference)])[0]  # MGET: another type is a miss, not an error
        document = self._read(_text(raw)) if raw else None
        return document if document and document.get("external_id") == reference else None

    def _checked(self, session_id: str, raw: bytes | str | None) -> Document | None:
        if raw is None:
            return None
        try:
            entry = json.loads(raw)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and type(entry.get("revision")) is int:
            if entry.get("deleted") is True or entry.get("stale") is True:
                return None
            if entry.get("id") == session_id and self._fields <= entry.keys():
                return entry
        log.warning("dropped a corrupt cache entry", extra={"session_id": session_id})
        self.client.unlink(document_key(session_id))
        return None

    def _guarded(self, call: Callable[[], T], otherwise: T) -> T:
        if not self.breaker.allows():
            return otherwise
        try:
            result = call()
        except (RedisError, OSError) as error:
            self.breaker.failed(error)
            return otherwise
        self.breaker.succeeded()
        return result


def _text(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
