"""The row in memory, in the table and as a document (A-03, B-10), and its cursors (Q-03)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Session, table_of
from sessionfleet.errors import ValidationFailed
from sessionfleet.jsontext import decode, encode
from sessions import cursor
from sessions.document import INTERNAL, SHOWN, as_read, document
from sessions.document import shown as shown_as_it_is
from sessions.identifiers import random_id, uuid_text
from sessions.policy import Policy
from sessions.record import COLUMNS
from tests.support.records import NOW, record, seconds


def test_a_record_has_the_columns_of_the_table_in_their_order() -> None:
    columns = [column.name for column in table_of(Session).columns]
    no_state = ["context_keys", "context_pending", "context_seen"]  # of the index of contexts
    assert [*COLUMNS, *no_state] == columns


def test_a_document_is_json_with_its_revision_first() -> None:
    shown = document(record(user_id="u", process_id=7))
    assert list(shown)[:2] == ["revision", "last_seq"]
    assert tuple(shown) == SHOWN
    assert json.loads(json.dumps(shown)) == shown
    assert not shown.keys() & set(INTERNAL)
    assert shown["created_at"] == "2026-03-29T12:00:00+00:00"
    assert shown["ended_at"] is None
    assert decode(encode(shown_as_it_is(record(user_id="u", process_id=7)))) == shown


def test_an_overdue_session_reads_as_expired_and_is_not_changed() -> None:
    """E-06."""
    session = record(expires_at=NOW)
    assert as_read(session, NOW - seconds(1), Policy())["status"] == "active"
    read = as_read(session, NOW, Policy())
    assert (read["status"], read["end_reason"]) == ("expired", "timeout")
    assert session.status == "active"
    ended = record(status="completed", expires_at=NOW)
    assert as_read(ended, NOW, Policy())["status"] == "completed"


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_cursor_returns_its_place(at: datetime, id_: UUID) -> None:
    text = cursor.encode(at, str(id_))
    assert cursor.decode(text) == (at, id_)
    assert "=" not in text


@given(st.uuids())
def test_a_uuid_has_one_text_in_any_spelling(id_: UUID) -> None:
    """A-02: however a caller writes it."""
    for spelling in (str(id_), str(id_).upper(), id_.hex, id_.urn, f"{{{id_}}}"):
        assert uuid_text(spelling) == str(id_)
    for other in ("", "sess-1", f"{id_}0", str(id_)[:-1], f"sess-{id_}"):
        assert uuid_text(other) is None


def test_random_ids_are_uuids_of_version_4() -> None:
    ids = {random_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        assert (str(UUID(text)), UUID(text).version, UUID(text).variant) == (text, 4, RFC_4122)


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_does_worse_than_a_typed_error(text: str) -> None:
    with pytest.raises(ValidationFailed, match="cursor"):
        cursor.decode(text)


OTHER_SHAPES = [None, [], [1, 2], ["x", "y"], {"a": 1, "b": 2}, [[], []], [NOW.isoformat(), 5], "ab"]


@pytest.mark.parametrize("value", OTHER_SHAPES)
def test_json_of_another_shape_is_no_cursor(value: object) -> None:
    with pytest.raises(ValidationFailed):
        cursor.decode(packed(value))


def test_a_cursor_holds_its_key() -> None:
    id_ = uuid4()
    assert cursor.decode(packed([NOW.isoformat(), str(id_)])) == (NOW, id_)
