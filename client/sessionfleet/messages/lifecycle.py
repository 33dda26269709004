"""The lifecycle verbs, delete, touch and extend (rows A-06..A-13, E-03, Q-07)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sessionfleet.errors import InvalidTransition, PayloadTooLarge, SessionNotFound, VersionConflict
from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Errors, Name, Text, Write
from sessionfleet.messages.fields import Counters, SessionWrite
from sessionfleet.words import RecoveryType, Status

PROCESS_WORDS: dict[str, Status] = {
    "starting": "initializing",
    "processing": "active",
    "suspended": "idle",
    "terminating": "terminated",
}
"""Words a process reports and the status each means (A-13)."""


class Transition(SessionWrite):
    """What every status verb takes."""

    answer: ClassVar[str] = "the session document with `changed`"
    errors: ClassVar[Errors] = (*SessionWrite.errors, InvalidTransition)

    reason: Text | None = Field(None, description="Kept as status_reason, in history, event and audit.")
    process_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class Start(Transition, name="session.start"):
    """Move from initializing to active; sets `started_at`."""


class Pause(Transition, name="session.pause"):
    """Pause a session; it then lives by paused_timeout_seconds (E-09)."""


class Resume(Transition, name="session.resume"):
    """Make a paused or idle session active again."""


class Idle(Transition, name="session.idle"):
    """The executor has nothing to do."""


class WaitInput(Transition, name="session.wait_input"):
    """The executor waits for input."""


class Interrupt(Transition, name="session.interrupt"):
    """Stop for now; the session can be recovered within recovery_window_seconds."""

    recovery_type: RecoveryType = "manual"


class Crash(Transition, name="session.crash"):
    """The executor died; the session can be recovered within recovery_window_seconds."""

    recovery_type: RecoveryType = "crash"
    error_message: Text | None = None


class Recover(Transition, name="session.recover"):
    """Make an interrupted or crashed session active again under a new lease epoch."""


class Complete(Transition, name="session.complete"):
    """End as completed, or as failed when `error` is given (A-10)."""

    errors: ClassVar[Errors] = (*Transition.errors, PayloadTooLarge)

    error: Text | None = None
    metrics: Counters | None = None


class Terminate(Transition, name="session.terminate"):
    """End by a user's wish; the reason is stored, answered and sent (A-09)."""

    reason: Text | None = "User terminated"


class Fail(Transition, name="session.fail"):
    """End as failed; `error` is stored as error_message."""

    errors: ClassVar[Errors] = (*Transition.errors, PayloadTooLarge)

    error: Text | None = None
    metrics: Counters | None = None


class Expire(Transition, name="session.expire"):
    """End as expired now, whatever the deadline."""


class SetStatus(Transition, name="session.set_status"):
    """Move to any status the table of A-06 allows; a same-status call answers `changed=false`.

    Takes the eleven statuses in any case and the process words starting, processing, suspended,
    terminating, which stay readable in runtime_metadata (A-13).
    """

    errors: ClassVar[Errors] = (*Transition.errors, PayloadTooLarge)

    status: Annotated[str, Field(pattern=r"^[A-Za-z_]{1,32}$")]
    error_message: Text | None = None
    runtime_metadata: JsonObject | None = Field(None, description="Merged into runtime_metadata.")


class Touch(SessionWrite, name="session.touch"):
    """Activity: renews the deadline (E-03)."""

    answer: ClassVar[str] = "the session document"
    errors: ClassVar[Errors] = (*SessionWrite.errors, InvalidTransition)


class Extend(SessionWrite, name="session.extend"):
    """Move `expires_at` later by `seconds` (E-03). Beyond the end of the year 9999 it is refused."""

    answer: ClassVar[str] = "the session document, `expires_at` moved"
    errors: ClassVar[Errors] = (*SessionWrite.errors, InvalidTransition)

    seconds: Annotated[int, Field(ge=1, le=604800)]


class Delete(SessionWrite, name="session.delete"):
    """Delete a session: its rows and Redis keys go, a tombstone of 30 days and the audit stay (Q-07)."""

    answer: ClassVar[str] = "{deleted: true, id, external_id}"
    errors: ClassVar[Errors] = (SessionNotFound, VersionConflict)


class DeleteByUser(Write, name="session.delete_by_user"):
    """Delete all sessions of one user (Q-07)."""

    answer: ClassVar[str] = "{deleted: count, ids: [...]}"

    user_id: Name
