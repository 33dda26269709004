"""What a session scope does when its block ends (A-17); shared by both clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sessionfleet.errors import FleetError, InvalidTransition, SessionExpired
from sessionfleet.jsonvalue import told
from sessionfleet.request import Answer
from sessionfleet.words import TERMINAL

Step = tuple[str, dict[str, Any]]


def to_start(document: Answer) -> Step | None:
    """The call that makes a fresh session active, or None when it is."""
    return None if document["status"] == "active" else ("session.start", {"session_id": document["id"]})


def to_end(document: Answer, error: BaseException | None = None) -> Step:
    """The call for a block that ended, by itself or with an exception."""
    arguments = {"session_id": document["id"]}
    if error is None:
        return "session.complete", arguments
    return "session.fail", {**arguments, "error": told(f"{type(error).__name__}: {error}".rstrip(": "))}


@contextmanager
def unless_ended(error: BaseException | None = None) -> Iterator[None]:
    """Let pass that the block ended its session itself. With ``error``, which is on its way to the
    caller, any other trouble becomes a note on it."""
    try:
        yield
    except FleetError as trouble:
        ended = isinstance(trouble, InvalidTransition) and trouble.details.get("from") in TERMINAL
        if ended or (isinstance(trouble, SessionExpired) and error is not None):
            return
        if error is None:
            raise
        error.add_note(f"the session could not be failed: {trouble}")
