"""What a verb decides: a :class:`Change`, nothing but data. Who writes it is the store's business.

Named tuples: several are made for each operation, and they are made three times as fast as frozen data classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sessionfleet.errors import FleetError
from sessionfleet.jsontext import Encoded
from sessionfleet.messages.apply import Whole
from sessionfleet.messages.base import Write
from sessionfleet.words import OutputStream, Status
from sessions.policy import Policy
from sessions.record import Record

Patch = list[dict[str, Any]]
"""RFC 6902 operations on the session document."""


class Context(NamedTuple):
    """What a verb may know beside the row and the command."""

    now: datetime
    """The database clock, read after the row was locked; never before the row's ``updated_at``."""
    policy: Policy
    task_id: str
    actor: str | None = None
    known_agents: frozenset[str] = frozenset()
    """Registered agents among those named by the command; filled only with check_agents on."""


class EventDraft(NamedTuple):
    """An event before it has its ``seq``."""

    name: str
    payload: Mapping[str, Any] = {}
    metadata: Mapping[str, Any] = {}
    entity_ids: Sequence[str] = ()
    state_change: bool = False
    """Wire type session.updated (R-04); the payload gets agent_id, status and updates."""
    publish: bool = True


class ChunkDraft(NamedTuple):
    """An output chunk before it has its number."""

    stream: OutputStream
    content: str
    bytes: int
    lines: int


class AuditDraft(NamedTuple):
    """An audit row beyond those that events bring along."""

    event_type: str
    metadata: Mapping[str, Any] = {}


class Change(NamedTuple):
    """Everything one operation does to one session. The empty change does nothing."""

    create: Record | None = None
    """The row to insert; all else applies to it."""
    columns: Mapping[str, Any] = {}
    """New values; bookkeeping columns (seq, versions, deadlines) are the store's."""
    to: Status | None = None
    """The new status: writes a transition row."""
    reason: str | None = None
    updates: Sequence[str] = ()
    """Columns a caller asked to change and that really changed, for answer and events."""
    patch: Sequence[dict[str, Any]] = ()
    events: Sequence[EventDraft] = ()
    output: Sequence[ChunkDraft] = ()
    audit: Sequence[AuditDraft] = ()
    state: bool = False
    """A state change: ``state_version`` grows (B-02)."""
    activity: bool = False
    """Renews the deadline (E-02)."""
    recheck: bool = False
    """A duty looked at the deadline: ``next_check_at`` is set anew, also later."""
    remove: bool = False
    """Delete the session's other rows; the row itself stays as tombstone (Q-07)."""
    answer: Callable[[Record], dict[str, Any]] | None = None
    """Answer from the row as written; None = the document with `changed` and `updates`."""
    error: FleetError | None = None
    """Answer this error although the change is written (E-06 only)."""


NOTHING = Change()


class Verb(Protocol):
    """A session verb: a pure decision. ``session`` is loaded and locked; it is None for a create
    that found no holder of its id."""

    def __call__(self, session: Record, command: Any, ctx: Context, /) -> Change: ...


class Operation(NamedTuple):
    """One message to run: what, by which verb, on which session, on whose behalf."""

    name: str
    message: Write
    verb: Callable[[Any, Any, Context], Change]
    task_id: str
    session_key: str | None
    """uuid or external id; None for a create that names neither."""
    key: str
    """Idempotency key."""
    second_key: str | None = None
    """The external id of a create that names an id too; either may be taken."""
    creates: bool = False
    refuses_overdue: bool = True
    """False for delete and for the duties that look after deadlines (E-06)."""
    idempotent: bool = True
    """False for duties and parts of a larger command, which are safe to repeat by themselves."""


class Batch(NamedTuple):
    """Operations that came in one message, in order, and what of them happens entirely or not at all."""

    operations: Sequence[Operation]
    whole: Whole = "operation"


class Outcome(NamedTuple):
    """What became of one operation: an answer or an error, and the row whose document is to be cached."""

    answer: Any = None
    """JSON types, or :class:`sessionfleet.jsontext.Encoded`."""
    error: FleetError | None = None
    record: Record | None = None
    """The row as written; None when nothing was."""
    document: Encoded | None = None
    """The document of ``record``, where the answer was made of it."""
    replayed: bool = False
    held: frozenset[str] = frozenset()
    """Nothing happened yet: somebody holds a row that it, or one that it must follow, is on. All names it and those
    rows are known by (:func:`sessions.wholes.names_of`); empty for all else."""
