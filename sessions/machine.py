"""The state machine of a session (rows A-06, A-07, A-11): which moves exist and what each is called."""

from __future__ import annotations

from sessionfleet.errors import InvalidTransition
from sessionfleet.words import STATUSES, TERMINAL, EndReason, Status

_LIVE_EXITS: frozenset[Status] = frozenset({"interrupted", "crashed", "completed", "terminated", "failed", "expired"})

MOVES: dict[Status, frozenset[Status]] = {
    "initializing": frozenset({"active", "interrupted", "crashed", "terminated", "failed", "expired"}),
    "active": _LIVE_EXITS | {"idle", "waiting_input", "paused"},
    "idle": _LIVE_EXITS | {"active", "waiting_input", "paused"},
    "waiting_input": _LIVE_EXITS | {"active", "idle", "paused"},
    "paused": _LIVE_EXITS | {"active"},
    "interrupted": frozenset({"active", "terminated", "failed", "expired"}),
    "crashed": frozenset({"active", "terminated", "failed", "expired"}),
    **{status: frozenset() for status in STATUSES if status in TERMINAL},
}
"""From -> the statuses it may move to. A terminal status has no exit, ever."""

END_REASONS: dict[Status, EndReason] = {
    "completed": "completed",
    "terminated": "user",
    "failed": "error",
    "expired": "timeout",
}
"""The end_reason a terminal status has unless the verb knows better (A-09)."""


def check_move(current: Status, to: Status, *, only_from: frozenset[Status] | None = None) -> None:
    """Raise :class:`InvalidTransition` unless ``current -> to`` is in the table.

    ``only_from`` narrows the table for verbs that mean less than a move (start, resume, recover). The message
    then says so, since ``allowed`` may well have what the verb does not do; an ended session is told the table.
    """
    if only_from is not None and MOVES[current] and current not in only_from:
        places = " or ".join(sorted(only_from))
        message = f"This operation makes a session {to} that is {places}; this one is {current}."
        raise InvalidTransition.of(current, to, MOVES[current], message)
    if to not in MOVES[current]:
        raise InvalidTransition.of(current, to, MOVES[current])


def event_name(current: Status, to: Status, started: bool) -> str:
    """The event a move is announced by: the first activation is ``session.started``, a recovery
    ``session.recovered``, any other return to active ``session.resumed``, the rest by status."""
    if to != "active":
        return f"session.{to}"
    if current in ("interrupted", "crashed"):
        return "session.recovered"
    return "session.resumed" if started else "session.started"
