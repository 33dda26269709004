"""Reading a session's document straight from the fleet's cache (rows B-10, Q-01)."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sessionfleet.feed import LOST, client
from sessionfleet.words import OWN_NAME, TERMINAL

DOCUMENT = "sess:doc:"
EXTERNAL = "sess:ext:"
CLOCK_DOUBT = timedelta(seconds=60)
"""How far this host's clock may be from the database's, which alone says whether a session is overdue (E-06)."""

PATIENCE_SECONDS = 1.0
NEEDED = ("id", "revision", "state_version", "status", "expires_at")

Document = dict[str, Any]


class CachedDocuments:
    """The fleet's document cache, read only; for one event loop."""

    def __init__(self, cache_url: str) -> None:
        self._redis = client(cache_url)

    async def find(self, reference: object, min_version: int) -> Document | None:
        """The document by id or external id, if it is there, new enough and no deadline is near.

        None also when Redis does not answer within PATIENCE_SECONDS, and for what names no session: ``session.get``
        says so.
        """
        if not isinstance(reference, str):
            return None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found: Any = await self._redis.mget(DOCUMENT + reference.removeprefix(OWN_NAME), EXTERNAL + reference)
                raw, other = found
                if raw is None and other is not None:
                    [raw] = await self._redis.mget(DOCUMENT + other.decode())
        except (*LOST, TimeoutError, UnicodeError):
            return None
        document = _document(raw)
        if document is None or reference not in (document["id"], document.get("external_id")):
            return None
        try:
            usable = document["state_version"] >= min_version and not _deadline_near(document)
        except (TypeError, ValueError):  # nothing that a worker has written: one mends it
            return None
        return document if usable else None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _document(raw: bytes | None) -> Document | None:
    """The document in a cache entry; None for a mark (deleted, stale) and for what another release wrote."""
    try:
        entry = json.loads(raw or b"null")
    except ValueError:
        return None
    if not isinstance(entry, dict) or not all(name in entry for name in NEEDED):
        return None
    return entry


def _deadline_near(document: Document) -> bool:
    if document["status"] in TERMINAL or document["expires_at"] is None:
        return False
    return datetime.fromisoformat(document["expires_at"]) - datetime.now(UTC) < CLOCK_DOUBT
