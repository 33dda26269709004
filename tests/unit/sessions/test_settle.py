"""The one place where numbers are given out (invariant 3; A-08, B-02, B-14, D-01)."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet import messages as m
from sessionfleet.jsontext import Encoded, plain
from sessions import creation
from sessions.change import AuditDraft, Change, ChunkDraft, EventDraft
from sessions.record import COLUMNS
from sessions.settle import answer, joined
from tests.support.records import NOW, context, record, settled

drafts = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["session.updated", "new", "output.received"]),
            "state_change": st.booleans(),
            "publish": st.booleans(),
        }
    ).map(lambda given: EventDraft(**given)),
    max_size=4,
)
chunks = st.lists(st.integers(1, 50).map(lambda n: ChunkDraft("stdout", "x" * n, n, 1)), max_size=3)


@given(st.lists(st.tuples(drafts, chunks, st.booleans(), st.booleans()), max_size=6))
def test_numbers_are_contiguous_whatever_the_changes(plan: list[tuple[Any, Any, bool, bool]]) -> None:
    """D-01, C-01: seq and chunk_no from the row's own counters, versions by one per state change."""
    session = record(last_seq=0, state_version=0, revision=0)
    seqs, chunk_numbers, versions = [], [], 0
    for events, output, state, activity in plan:
        change = Change(events=events, output=output, state=state, activity=activity)
        rows = settled(session, change, context(NOW))
        versions += state
        assert rows.record.state_version == versions
        assert rows.record.revision - session.revision == (1 if rows.columns else 0)
        seqs += [row["seq"] for row in rows.events]
        chunk_numbers += [row["chunk_no"] for row in rows.output]
        session = rows.record
    assert seqs == list(range(1, len(seqs) + 1))
    assert session.last_seq == len(seqs)
    assert chunk_numbers == list(range(1, len(chunk_numbers) + 1))
    assert session.output_bytes == sum(chunk.bytes for _, output, _, _ in plan for chunk in output)


def test_only_what_changed_is_written() -> None:
    """Columns, with the revision and its instant; nothing at all for no change."""
    session = record(user_id="u")
    assert settled(session, Change(), context()).empty
    rows = settled(session, Change(columns={"user_id": "u", "model": "m"}, state=True), context())
    assert rows.columns.keys() == {"model", "state_version", "revision", "updated_at"}


def test_a_boolean_in_place_of_a_number_is_written() -> None:
    """B-07: Python takes them for equal."""
    changed = [{"a": True}, {"a": 1}, {"a": [True]}, {"a": [1.5]}]
    for old, new in itertools.pairwise(changed):
        rows = settled(record(context=old), Change(columns={"context": new}, state=True), context())
        assert rows.columns["context"] == new
    assert settled(record(context={"a": [1]}), Change(columns={"context": {"a": [1]}}), context()).empty


def test_every_event_has_its_audit_row_without_values() -> None:
    """I-03: names of what changed and the versions, not the content."""
    change = Change(
        columns={"query": "secret"},
        updates=["query"],
        patch=[{"op": "add", "path": "/query", "value": "secret"}],
        events=[EventDraft("session.updated", state_change=True)],
        audit=[AuditDraft("extra", {"n": 1})],
        state=True,
    )
    rows = settled(record(), change, context())
    assert [row["event_type"] for row in rows.audit] == ["session_updated", "extra"]
    assert rows.audit[0]["metadata"] == {
        "task_id": "task-1",
        "seq": 3,
        "version_from": 2,
        "version_to": 3,
        "updates": ["query"],
    }
    assert "secret" not in str(rows.audit)
    assert rows.events[0]["metadata"] == {"version_from": 2, "version_to": 3, "patch": change.patch}


def test_a_create_writes_every_column_and_begins_at_one() -> None:
    """A-01: created, started and start events, one transition from nowhere."""
    command = m.Create(status="active", entity_ids=["e"], context={"a": 1}, status_reason="asked")
    change = creation.create(None, command, context())
    rows = settled(None, change, context(), command)
    assert rows.insert
    assert tuple(rows.columns) == COLUMNS
    assert (rows.record.state_version, rows.record.revision, rows.record.last_seq) == (1, 1, 3)
    assert [(row["seq"], row["event_name"], row["event_type"]) for row in rows.events] == [
        (1, "session.created", "session.created"),
        (2, "session.started", "session.updated"),
        (3, "start", "start"),
    ]
    assert rows.events[0]["payload"] == {"agent_id": None, "session_type": "conversation", "runtime_backend": None}
    assert rows.events[1]["payload"] == {"agent_id": None, "status": "active", "updates": []}
    assert rows.events[2]["entity_ids"] == ["e"]
    [move] = rows.transitions
    assert (move["from_status"], move["to_status"], move["seq"], move["reason"]) == (None, "active", 1, "asked")
    assert plain(answer(change, Encoded({"id": rows.record.id})))["changed"] is True


def test_changes_of_one_session_become_one_write() -> None:
    """Two operations of one transaction: all rows, the last state, one update of the row."""
    first = settled(record(), Change(columns={"model": "a"}, events=[EventDraft("x")], state=True), context())
    second = settled(first.record, Change(columns={"query": "b"}, events=[EventDraft("y")], state=True), context())
    other = settled(record(id=UUID(int=9), external_id="o"), Change(columns={"model": "z"}, state=True), context())
    found = joined([first, other, second])
    assert [one.record.id for one in found] == [first.record.id, other.record.id]
    assert [row["seq"] for row in found[0].events] == [3, 4]
    assert (found[0].columns["model"], found[0].columns["query"]) == ("a", "b")
    assert (found[0].columns["state_version"], found[0].columns["revision"]) == (4, 4)


def test_a_change_needs_a_session() -> None:
    with pytest.raises(ValueError, match="needs a session"):
        settled(None, Change(), context())
