"""session.update, update_context and update_metrics (rows B-01..B-06, B-08, B-14)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from sessionfleet.errors import (
    AgentNotFound,
    CheckpointTooLarge,
    InvalidTransition,
    PatchTestFailed,
    PayloadTooLarge,
)
from sessionfleet.jsonvalue import JsonValue, jsonable
from sessionfleet.messages.base import Errors, Message, Name
from sessionfleet.messages.fields import Counters, Names, SessionWrite, Writable
from sessionfleet.words import Mode


class SetChange(Message):
    """A change of an ordered set: `add` appends what is new, `remove` drops, `set` replaces."""

    add: Names = Field(default_factory=list)
    remove: Names = Field(default_factory=list)
    set: Names | None = None


def _set_change(value: Any) -> Any:
    return {"set": value} if isinstance(value, list | tuple | set | frozenset) else value


OrderedSet = Annotated[SetChange, BeforeValidator(_set_change, json_schema_input_type=Names | SetChange)]
"""A list replaces the set; {add, remove, set} changes it (B-05)."""

Documents = JsonValue
"""An object, or under mode=patch an RFC 6902 list of operations."""


class _Modal(SessionWrite):
    """Rules of `mode` shared by the two updates."""

    mode: Mode = Field(
        "merge",
        description="merge: RFC 7396; shallow: top-level keys; patch: RFC 6902; "
        "replace: the whole object, needs expected_version; append: lists grow, commutes (B-01).",
    )

    @model_validator(mode="after")
    def _documents_fit_the_mode(self) -> Self:
        given = self.model_fields_set
        for field in ("context", "metadata", "runtime_metadata"):
            if field not in given:
                continue
            if self.mode == "replace" and self.expected_version is None:
                raise ValueError("expected_version: is required when mode is replace")
            if (value := getattr(self, field)) is None:
                continue
            if self.mode == "patch" and not isinstance(value, list):
                raise ValueError(f"{field}: must be a list of RFC 6902 operations when mode is patch")
            if self.mode != "patch" and not isinstance(value, dict):
                raise ValueError(f"{field}: must be a JSON object when mode is {self.mode}")
        return self


class Update(_Modal, Writable, name="session.update"):
    """Change any writable column; only what really changes is written and listed in `updates` (B-04).

    `status` moves the session by the table of A-06 in the same transaction. A call that changes
    nothing answers the document with `changed=false` and leaves no event.
    """

    answer: ClassVar[str] = "the session document with `changed` and `updates`"
    errors: ClassVar[Errors] = (
        *SessionWrite.errors,
        InvalidTransition,
        PatchTestFailed,
        PayloadTooLarge,
        CheckpointTooLarge,
        AgentNotFound,
    )

    status: str | None = Field(None, pattern=r"^[A-Za-z_]{1,32}$")
    status_reason: Name | None = None
    context: Documents = None
    metadata: Documents = None
    runtime_metadata: Documents = None
    account_ids: OrderedSet | None = None
    tags: OrderedSet | None = None


class UpdateContext(_Modal, name="session.update_context"):
    """Change the context; unknown top-level arguments of B-05 go to metadata through `metadata`.

    The named batch fields are keys of the context. `account_ids` and `tags` are ordered sets with
    `add`, `remove` and `set`.
    """

    answer: ClassVar[str] = "the session document with `changed` and `updates`"
    errors: ClassVar[Errors] = (*SessionWrite.errors, PatchTestFailed, PayloadTooLarge)

    context: Documents = None
    metadata: Documents = None
    account_ids: OrderedSet | None = None
    tags: OrderedSet | None = None
    current_batch: int | None = None
    total_batches: int | None = None
    processed_accounts: OrderedSet | None = None
    failed_accounts: OrderedSet | None = None
    recommendations_count: int | None = None
    checkpoint_timestamp: Annotated[Name, BeforeValidator(jsonable, json_schema_input_type=Name)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_are_metadata(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unknown = {key: value for key, value in data.items() if key not in cls.model_fields}
        if not unknown:
            return data
        if data.get("mode") == "patch":
            raise ValueError(f"{next(iter(unknown))}: unknown argument (metadata is a patch here)")
        known = {key: value for key, value in data.items() if key in cls.model_fields}
        metadata = known.get("metadata") or {}
        if not isinstance(metadata, dict):
            return known  # the rules of the mode refuse it by name
        return {**known, "metadata": {**unknown, **metadata}}


class UpdateMetrics(SessionWrite, name="session.update_metrics"):
    """Add to the session's counters; commutes, never stale (B-06)."""

    answer: ClassVar[str] = "the session document"
    errors: ClassVar[Errors] = (*SessionWrite.errors, PayloadTooLarge)

    metrics: Counters
