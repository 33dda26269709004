"""session.apply: a list of session operations in one message."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints

from sessionfleet.errors import NotApplied, PayloadTooLarge, UnknownOperation, ValidationFailed
from sessionfleet.messages.base import MOST_FIELDS, Errors, Write, message_type, storable
from sessionfleet.messages.create import Create
from sessionfleet.messages.fields import SessionWrite

MAX_OPERATIONS = 1000
KEY_ROOM = 251
"""Characters of a batch's key: ``:`` and the place of the operation follow, 255 in all."""

_SHARED = ("actor", "deadline_at")
"""Arguments of the batch that hold for every operation that names none."""

Whole = Literal["operation", "session", "batch"]


class Step(BaseModel):
    """One operation of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Wire name of session.create or of an operation on one session.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Its arguments, as if it were sent alone.")


class Apply(Write, name="session.apply"):
    """Several operations on one or many sessions, in order, in one transaction where no row is held.

    Each operation has its own answer or error, its own events and audit rows, and its own idempotency
    key: the one in its arguments, else the key of the batch, ``:`` and its place. Repeating the batch with its
    key gives the stored answers of what took effect and tries the rest again. `actor` and
    `deadline_at` hold for every operation that names none. Later operations see the earlier ones;
    a session created by the batch goes by the id or external id it was given. All rows
    are locked at the start, in id order. A `whole` on a row that another transaction holds follows in a transaction
    of its own when the row is free: it does not keep the others waiting, but the answer does wait for it.
    The answers of a batch have 128 MiB together at most: an operation whose answer does not fit with those before it
    is PAYLOAD_TOO_LARGE, for another batch.
    """

    answer: ClassVar[str] = (
        "{items: [{ok: true, answer} or {ok: false, error}], applied, failed}; one item for each operation, in "
        "order; `error` is the shape of all errors"
    )
    errors: ClassVar[Errors] = (NotApplied, PayloadTooLarge)

    operations: Annotated[list[Step], Field(min_length=1, max_length=MAX_OPERATIONS)]
    whole: Whole = Field(
        "session",
        description="What happens entirely or not at all: each `operation` for itself; the operations on one "
        "`session` (and those that share an idempotency key); the `batch`. Where one fails, the others of its "
        "whole answer NOT_APPLIED.",
    )
    idempotency_key: (
        Annotated[str, StringConstraints(min_length=1, max_length=KEY_ROOM), AfterValidator(storable)] | None
    ) = Field(None, description="What the keys of the operations begin with. Default: the task id.")
    expected_version: None = Field(None, description="Belongs to the single operation.")

    _messages: tuple[Write, ...] = PrivateAttr(())

    @property
    def messages(self) -> tuple[Write, ...]:
        """The validated message of each operation, with what holds for all of the batch."""
        shared = {name: value for name in _SHARED if (value := getattr(self, name)) is not None}
        return tuple(_with(message, shared) for message in self._messages) if shared else self._messages

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """As for any message; what does not fit is named like ``operations.3.arguments.tags``."""
        batch = super().parse(arguments)
        wrong: list[dict[str, str]] = []
        messages: list[Write] = []
        for index, step in enumerate(batch.operations):
            try:
                messages.append(class_of(step.name).parse(step.arguments))
            except UnknownOperation as error:
                wrong.append({"field": f"operations.{index}.name", "message": error.message})
            except ValidationFailed as error:
                wrong += [_placed(index, found) for found in error.details["fields"]]
            if len(wrong) >= MOST_FIELDS:
                break
        if wrong:
            raise ValidationFailed(message=f"{wrong[0]['field']}: {wrong[0]['message']}", fields=wrong[:MOST_FIELDS])
        batch._messages = tuple(messages)  # noqa: SLF001 - its own
        return batch

    def arguments(self) -> dict[str, Any]:
        """As for any message, the operations in their wire form too."""
        steps = [{"name": one.wire_name, "arguments": one.arguments()} for one in self._messages]
        return {**self.model_dump(mode="json", exclude_unset=True, exclude={"operations"}), "operations": steps}


def _with(message: Write, shared: dict[str, Any]) -> Write:
    return message.model_copy(update={name: one for name, one in shared.items() if getattr(message, name) is None})


def class_of(name: str) -> type[Write]:
    """The message class of an operation that a batch takes, or :class:`UnknownOperation`."""
    kind = message_type(name)
    if not issubclass(kind, Create | SessionWrite):
        raise UnknownOperation(operation=name, message=f"{name} is no operation on one session.")
    return kind


def _placed(index: int, found: dict[str, str]) -> dict[str, str]:
    field = "arguments" if found["field"] == "arguments" else f"arguments.{found['field']}"
    return {"field": f"operations.{index}.{field}", "message": found["message"]}
