"""session.append_output and read_output (rows C-01..C-03, C-05)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from sessionfleet.errors import InvalidTransition, SessionNotFound
from sessionfleet.messages.base import Errors, Message, Reference, storable
from sessionfleet.messages.fields import SessionWrite
from sessionfleet.words import OutputStream


class AppendOutput(SessionWrite, name="session.append_output"):
    """Append output; parallel appends all survive, numbered in commit order from 1 (C-01).

    Content above 262,144 bytes of UTF-8 is split into several chunks.
    """

    answer: ClassVar[str] = "{session_id, chunk_no, chunks, seq, output_bytes, output_lines}"
    errors: ClassVar[Errors] = (*SessionWrite.errors, InvalidTransition)

    content: Annotated[str, Field(min_length=1), AfterValidator(storable)]
    stream: OutputStream = "stdout"


class ReadOutput(Message, name="session.read_output"):
    """Read output chunks after `after_chunk`, oldest first, at most `limit` and about 12 MiB of content (C-02)."""

    answer: ClassVar[str] = (
        "{session_id, status, output, output_length, chunks: [{chunk_no, stream, content, bytes, created_at}], "
        "next_chunk, last_chunk, truncated_before, eof}"
    )
    errors: ClassVar[Errors] = (SessionNotFound,)

    session_id: Reference
    after_chunk: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=10000)] = 1000
