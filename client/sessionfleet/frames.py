"""Frames for terminals and websockets: the life of a session as small JSON objects (R-09).

Each frame is one object with a ``type``; :func:`encode` writes it as one line, :data:`SCHEMA` is the JSON Schema
of all that a subscription yields, and :class:`GetStatus` and :class:`Input` are what it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sessionfleet.errors import ValidationFailed
from sessionfleet.refusals import reason
from sessionfleet.words import Status

Frame = dict[str, Any]
"""A frame as it is handed out: JSON types only."""

MAX_INPUT = 262144
"""Characters of one input."""


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    session_id: str


class Connected(_Frame):
    """The first: state and place of the session, from one snapshot."""

    type: Literal["connected"] = "connected"
    status: Status
    state_version: int
    seq: int = Field(description="Events after this one are told.")
    chunk_no: int = Field(description="Output after this chunk follows.")


class Output(_Frame):
    """A chunk of output."""

    type: Literal["output"] = "output"
    chunk_no: int
    stream: Literal["stdout", "stderr", "input"]
    content: str
    at: str | None
    missed: int = Field(0, description="Chunks before it that had left the output buffer.")


class StatusFrame(_Frame):
    """The status after an event, or the answer to get_status."""

    type: Literal["status"] = "status"
    status: Status
    seq: int
    state_version: int | None = None
    event: str | None = Field(None, description="Name of the event; null in an answer.")
    actor: str | None = None
    reason: str | None = None
    at: str | None = None
    id: str | None = Field(None, description="That of the get_status it answers.")


class Terminated(_Frame):
    """The last, however it ends."""

    type: Literal["terminated"] = "terminated"
    reason: Literal["completed", "terminated", "failed", "expired", "deleted", "timeout", "closed", "error"]
    seq: int
    chunk_no: int


class ErrorFrame(_Frame):
    """What the reader sent was refused, or following ended in a typed error; fields as in all errors."""

    type: Literal["error"] = "error"
    code: str
    message: str
    details: dict[str, Any]
    retryable: bool
    retry_after_ms: int | None
    http_status: int
    legacy_codes: list[str]
    id: str | None = Field(None, description="That of the frame it answers.")


class Ping(_Frame):
    """A sign of life with the place so far."""

    type: Literal["ping"] = "ping"
    seq: int
    chunk_no: int


class GetStatus(BaseModel):
    """Sent by the reader: answered by a status frame with the same ``id``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["get_status"]
    id: Annotated[str, Field(max_length=255)] | None = None


class Input(BaseModel):
    """Sent by the reader: goes to the session's process by ``session.send_input``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["input"]
    content: Annotated[str, Field(min_length=1, max_length=MAX_INPUT)]
    id: Annotated[str, Field(max_length=255)] | None = None


AnyFrame = Annotated[Connected | Output | StatusFrame | Terminated | ErrorFrame | Ping, Field(discriminator="type")]
FRAMES: TypeAdapter[Any] = TypeAdapter(AnyFrame)
"""Checks a frame: ``FRAMES.validate_python(frame)``."""

SCHEMA: Mapping[str, Any] = FRAMES.json_schema()
"""JSON Schema of every frame."""

_SENT: TypeAdapter[GetStatus | Input] = TypeAdapter(Annotated[GetStatus | Input, Field(discriminator="type")])


def encode(frame: Frame) -> str:
    """A frame as one line of ASCII without its line end: whatever is in it, no reader splits it in two."""
    return json.dumps(frame, separators=(",", ":"), allow_nan=False)


def parse(sent: Mapping[str, Any] | str | bytes) -> GetStatus | Input:
    """What a reader sent, as an object or as JSON; raises :class:`ValidationFailed`."""
    try:
        return _SENT.validate_json(sent) if isinstance(sent, str | bytes) else _SENT.validate_python(dict(sent))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValidationFailed.of(str(first["loc"][-1]) if first["loc"] else "frame", reason(first)) from None
    except (TypeError, ValueError):
        raise ValidationFailed.of("frame", "must be a JSON object") from None
