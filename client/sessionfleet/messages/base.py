"""How a message is declared: one class per operation, the same on both ends.

A message class names its wire name, its queue and what it answers; subclassing registers it. The
client validates with it before sending, the worker before running, the catalogue
(``docs/tasks.md``) is generated from it. Messages travel as the keyword arguments of a Celery
task, JSON only.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sessionfleet.errors import FleetError, UnknownOperation, ValidationFailed
from sessionfleet.jsonvalue import MOST_TEXT, jsonable
from sessionfleet.refusals import reason

Kind = Literal["read", "write", "duty"]
Errors = tuple[type[FleetError], ...]


def storable(value: str) -> str:
    jsonable(value)
    return value


Text = Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(storable)]
"""Free text, at most 65,536 characters."""

Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(storable)]
"""An identifier given by a caller, 1..255 characters."""

Reference = Annotated[str, Field(min_length=1, max_length=276), AfterValidator(storable)]
"""What names a session, 1..276 characters: its uuid or its external id, of which the longest are generated
(``session_{orchestrator_id}_{12 hex}``, A-02)."""

Word = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
"""An open word of D-05: lower case letters, digits, ``_`` and ``-``."""


MOST_FIELDS = 100
"""Findings that one refusal names. A list may hold thousands that do not fit, and a batch a thousand such lists: each
would be an answer, and a line of the log, of many times what was sent."""

_OF_THE_CALL = frozenset({"idempotency_key", "deadline_at"})
"""Arguments that say how an operation is called; two calls that differ in nothing else are the same operation."""


class Message(BaseModel):
    """Root of all messages. Unknown arguments are refused, so a typing error cannot pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wire_name: ClassVar[str] = ""
    queue: ClassVar[str] = "sessions"
    kind: ClassVar[Kind] = "read"
    answer: ClassVar[str] = ""
    """The shape of the answer, in words, for the catalogue."""
    errors: ClassVar[Errors] = ()
    """Typed errors of this operation beyond VALIDATION_FAILED and UNAVAILABLE."""

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.wire_name = name
            if name in CATALOGUE:
                raise TypeError(f"two messages are named {name}")
            CATALOGUE[name] = cls

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """A valid message, or :class:`ValidationFailed` naming the fields that do not fit, MOST_FIELDS of them."""
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            raise invalid(error) from None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments to send: only what was given, as JSON types."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class Write(Message):
    """What every write takes beside its own arguments."""

    kind: ClassVar[Kind] = "write"

    idempotency_key: Name | None = Field(
        None,
        description="Same key and body: one effect, the stored answer again (B-13). Default: the task id.",
    )
    expected_version: int | None = Field(
        None, ge=0, description="Refuse with VERSION_CONFLICT unless state_version is this (B-02)."
    )
    actor: Name | None = Field(None, description="Who asks; kept in events, history and audit.")
    deadline_at: AwareDatetime | None = Field(
        None, description="Do not start after this instant; answers DEADLINE_EXCEEDED (E-19)."
    )

    @property
    def session_keys(self) -> tuple[str, ...]:
        """The uuid or external ids by which it names a session that it writes; most important first."""
        return ()

    def body(self) -> dict[str, Any]:
        """What must be equal for two uses of one idempotency key, as JSON types."""
        return self.model_dump(mode="json", exclude_unset=True, exclude=set(_OF_THE_CALL))

    def given(self) -> dict[str, Any]:
        """As :meth:`body`, but values as they were validated: much faster, and the same where all are JSON types."""
        values = self.__dict__
        return {name: values[name] for name in self.model_fields_set if name not in _OF_THE_CALL}


class Duty(Message):
    """A periodic duty: fired by beat, may be sent by an operator at any time, idempotent."""

    kind: ClassVar[Kind] = "duty"
    queue: ClassVar[str] = "maintenance"


CATALOGUE: dict[str, type[Message]] = {}
"""Wire name -> message class, filled as the message modules are imported."""


def message_type(name: str) -> type[Message]:
    """The message class of a wire name, or :class:`UnknownOperation`."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownOperation(operation=name) from None


def invalid(error: ValidationError) -> ValidationFailed:
    """Pydantic's findings in our words: ``details.fields`` = [{field, message}], MOST_FIELDS of them, first one in
    the text.

    A rule over several fields names the one to mend at the start of its text (``field: what``).
    """
    fields = []
    for found in error.errors(include_url=False, include_input=False)[:MOST_FIELDS]:
        # A part in brackets is the branch of a union that did not fit either, no field.
        field = ".".join(str(part) for part in found["loc"] if "[" not in str(part))
        message = reason(found)
        if not field:
            field, _, message = message.rpartition(": ") if message.count(": ") == 1 else ("arguments", "", message)
        fields.append({"field": field, "message": message})
    return ValidationFailed(message=f"{fields[0]['field']}: {fields[0]['message']}", fields=fields)
