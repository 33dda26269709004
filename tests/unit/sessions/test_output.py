"""The append_output verb (rows C-01, C-03, C-05)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet import messages as m
from sessionfleet.errors import InvalidTransition, SessionExpired, ValidationFailed
from sessionfleet.words import LIVE, RECOVERABLE
from sessions import output
from tests.support.records import NOW, context, record, seconds, settled

BOUND = 262144


def append(content: str, stream: str = "stdout") -> m.AppendOutput:
    return m.AppendOutput.parse({"session_id": "x", "content": content, "stream": stream})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1), st.integers(4, 40))
def test_pieces_join_to_the_whole_and_none_is_too_long(text: str, bound: int) -> None:
    """C-01: split by bytes, never inside a character."""
    pieces = list(output.split(text, bound))
    assert "".join(pieces) == text
    assert all(1 <= len(piece.encode()) <= bound for piece in pieces)


@pytest.mark.parametrize(("size", "pieces"), [(1, 1), (BOUND, 1), (BOUND + 1, 2), (2 * BOUND, 2), (2 * BOUND + 1, 3)])
def test_content_is_split_above_262144_bytes(size: int, pieces: int) -> None:
    """C-01."""
    assert len(list(output.split("x" * size))) == pieces


@pytest.mark.parametrize("shift", range(4))
def test_a_character_of_four_bytes_at_the_cut_stays_whole(shift: int) -> None:
    """C-01: the cut moves before the character, so the first piece is up to three bytes shorter."""
    text = "x" * (BOUND - shift) + "\U0001f680" + "y"
    first, rest = output.split(text)
    assert len(first.encode()) == BOUND - shift
    assert first + rest == text


@pytest.mark.parametrize(
    ("text", "lines"), [("a", 1), ("a\n", 1), ("\n", 1), ("a\nb", 2), ("a\nb\n", 2), ("\n\n\n", 3)]
)
def test_lines_are_counted_as_an_editor_does(text: str, lines: int) -> None:
    """C-03: text after the last line end is a line too."""
    [chunk] = output.append_output(record(), append(text), context()).output
    assert chunk.lines == lines


@pytest.mark.parametrize(
    ("stream", "event"), [("stdout", "output.received"), ("input", "output.received"), ("stderr", "error.received")]
)
def test_the_stream_names_the_event(stream: str, event: str) -> None:
    """C-05: {chunk_no, bytes}."""
    [draft] = output.append_output(record(last_chunk=7), append("zwölf", stream), context()).events
    assert draft.name == event
    assert draft.payload == {"chunk_no": 8, "bytes": 6, "stream": stream}


def test_chunks_go_on_from_the_last_one_with_the_totals_before_them() -> None:
    """C-01, C-03: numbers and starts come from the locked row."""
    row = record(last_chunk=4, output_bytes=100, output_lines=9)
    done = settled(row, output.append_output(row, append("y" * BOUND + "z\n"), context()), context())
    assert [(one["chunk_no"], one["start_bytes"], one["start_lines"]) for one in done.output] == [
        (5, 100, 9),
        (6, 100 + BOUND, 10),
    ]
    assert (done.record.last_chunk, done.record.output_bytes, done.record.output_lines) == (6, 100 + BOUND + 2, 11)
    assert [event["seq"] for event in done.events] == [3, 4]


def test_output_is_activity_and_no_state_change() -> None:
    """E-02, B-02: appends are never stale."""
    ctx = context(NOW + seconds(50))
    row = settled(record(), output.append_output(record(), append("x"), ctx), ctx).record
    assert row.expires_at == NOW + seconds(1850)
    assert row.state_version == record().state_version


@pytest.mark.parametrize("status", sorted(LIVE | RECOVERABLE))
def test_output_is_taken_while_the_session_has_not_ended(status: str) -> None:
    """C-01: late output of a crashed executor is not lost."""
    assert output.append_output(record(status=status), append("x"), context()).output


@pytest.mark.parametrize("status", ["completed", "terminated", "failed"])
def test_an_ended_session_takes_no_output(status: str) -> None:
    with pytest.raises(InvalidTransition):
        output.append_output(record(status=status), append("x"), context())


def test_an_expired_session_says_so() -> None:
    with pytest.raises(SessionExpired):
        output.append_output(record(status="expired", expires_at=NOW), append("x"), context())


@pytest.mark.parametrize(
    "arguments", [{"content": ""}, {"content": "a\x00"}, {"content": "a", "stream": "stdlog"}, {}]
)
def test_bad_arguments_are_refused_before_a_session_is_loaded(arguments: dict[str, str]) -> None:
    with pytest.raises(ValidationFailed):
        m.AppendOutput.parse({"session_id": "x", **arguments})
