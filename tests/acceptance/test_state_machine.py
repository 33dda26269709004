"""All moves of a session, tried through real workers (rows A-04, A-06, A-07)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg2.errors
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sessionfleet.errors import FleetError
from sessionfleet.words import STATUSES, TERMINAL
from tests.support import RunningFleet
from tests.support.asking import codes, events, new, stored, together

ENDS = "interrupted crashed completed terminated failed expired"
TABLE = {
    "initializing": "active interrupted crashed terminated failed expired",
    "active": f"idle waiting_input paused {ENDS}",
    "idle": f"active waiting_input paused {ENDS}",
    "waiting_input": f"active idle paused {ENDS}",
    "paused": f"active {ENDS}",
    "interrupted": "active terminated failed expired",
    "crashed": "active terminated failed expired",
    "completed": "",
    "terminated": "",
    "failed": "",
    "expired": "",
}
LEGAL = {(current, to) for current, targets in TABLE.items() for to in targets.split()}

VERBS = {
    "start": "active",
    "pause": "paused",
    "resume": "active",
    "idle": "idle",
    "wait_input": "waiting_input",
    "interrupt": "interrupted",
    "crash": "crashed",
    "recover": "active",
    "complete": "completed",
    "terminate": "terminated",
    "fail": "failed",
    "expire": "expired",
}
ONLY_FROM = {
    "start": {"initializing"},
    "resume": {"paused", "idle"},
    "recover": {"interrupted", "crashed"},
}
REACHED_BY = {status: verb for verb, status in VERBS.items() if status != "active"}


def sessions_in(fleet: RunningFleet, statuses: list[str]) -> list[str]:
    """A new session in each of these statuses."""
    calls = [("session.create", {"status": status if status == "initializing" else "active"}) for status in statuses]
    ids = [document["id"] for document in together(fleet, calls)]
    steps = [
        (f"session.{REACHED_BY[status]}", {"session_id": session_id})
        for session_id, status in zip(ids, statuses, strict=True)
        if status not in ("initializing", "active")
    ]
    assert set(codes(together(fleet, steps))) == {"ok"}
    return ids


def tried(fleet: RunningFleet, how: str) -> dict[tuple[str, str], tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
    """Each of the 121 pairs on a session of its own: outcome, rows before, rows after."""
    pairs = [(current, to) for current in STATUSES for to in STATUSES]
    ids = sessions_in(fleet, [current for current, _ in pairs])
    before = [stored(fleet, session_id) for session_id in ids]
    calls = [(how, {"session_id": session_id, "status": to}) for session_id, (_, to) in zip(ids, pairs, strict=True)]
    outcomes = together(fleet, calls)
    after = [stored(fleet, session_id) for session_id in ids]
    return dict(zip(pairs, zip(outcomes, before, after, strict=True), strict=True))


@pytest.mark.parametrize("how", ["session.set_status", "session.update"])
def test_of_121_pairs_exactly_the_moves_of_the_table_succeed(fleet: RunningFleet, how: str) -> None:
    """AT-A2 [A-06 A-07]: what is refused is E:INVALID_TRANSITION with {from, to, allowed}, nothing written."""
    results = tried(fleet, how)
    assert len(results) == 121
    for (current, to), (outcome, before, after) in results.items():
        move = f"{current} -> {to}"
        assert before["row"]["status"] == current, move
        if (current, to) in LEGAL:
            assert not isinstance(outcome, FleetError), (move, outcome)
            assert (outcome["status"], outcome["changed"]) == (to, True), move
            assert after["row"]["state_version"] == before["row"]["state_version"] + 1, move
            assert after["events"] == before["events"] + 1, move
            assert after["transitions"] == before["transitions"] + 1, move
        elif current == to:
            assert not isinstance(outcome, FleetError), (move, outcome)
            assert (outcome["status"], outcome["changed"]) == (to, False), move
            assert after == before, move
        else:
            assert isinstance(outcome, FleetError), move
            assert outcome.code == "INVALID_TRANSITION", move
            assert outcome.details["allowed"] == sorted(TABLE[current].split()), move
            assert (outcome.details["from"], outcome.details["to"]) == (current, to), move
            assert after == before, move


def test_each_verb_moves_from_where_it_may_and_nowhere_else(fleet: RunningFleet) -> None:
    """A-07: twelve verbs by eleven statuses; start, resume and recover mean less than a move to active."""
    combinations = [(verb, current) for verb in VERBS for current in STATUSES]
    ids = sessions_in(fleet, [current for _, current in combinations])
    before = [stored(fleet, session_id) for session_id in ids]
    calls = [
        (f"session.{verb}", {"session_id": session_id})
        for session_id, (verb, _) in zip(ids, combinations, strict=True)
    ]
    outcomes = together(fleet, calls)
    for (verb, current), session_id, outcome, was in zip(combinations, ids, outcomes, before, strict=True):
        what, to = f"{verb} on {current}", VERBS[verb]
        if verb in ONLY_FROM:
            expected = "changed" if current in ONLY_FROM[verb] else "refused"
        elif current == to:
            expected = "unchanged"
        else:
            expected = "changed" if (current, to) in LEGAL else "refused"
        if expected == "refused":
            assert isinstance(outcome, FleetError), what
            assert outcome.code == "INVALID_TRANSITION", what
        else:
            assert not isinstance(outcome, FleetError), (what, outcome)
            assert (outcome["status"], outcome["changed"]) == (to, expected == "changed"), what
        if expected != "changed":
            assert stored(fleet, session_id) == was, what


def test_a_terminal_session_keeps_its_end(fleet: RunningFleet) -> None:
    """A-06, A-08: whatever is tried afterwards, ended_at, end_reason and status stay."""
    ids = dict(zip(sorted(TERMINAL), sessions_in(fleet, sorted(TERMINAL)), strict=True))
    ended = {status: stored(fleet, session_id)["row"] for status, session_id in ids.items()}
    assert all(row["ended_at"] for row in ended.values())
    calls = [(f"session.{verb}", {"session_id": session_id}) for verb in VERBS for session_id in ids.values()]
    together(fleet, calls)
    for status, session_id in ids.items():
        assert stored(fleet, session_id)["row"] == ended[status]


def test_an_active_session_set_active_is_left_alone(fleet: RunningFleet) -> None:
    """AT-A3 [A-07]: changed=false and no event; start and resume are refused."""
    session = new(fleet)
    before = events(fleet, session["id"])

    again = fleet.call("session.set_status", session_id=session["id"], status="active")

    assert again == {**session, "changed": False, "updates": []}
    outcomes = together(fleet, [(f"session.{verb}", {"session_id": session["id"]}) for verb in ("start", "resume")])
    assert codes(outcomes) == ["INVALID_TRANSITION"] * 2
    assert events(fleet, session["id"]) == before


def test_the_database_knows_eleven_statuses(fleet: RunningFleet) -> None:
    """AT-A11 [A-04]: stored in lower case, a twelfth fails in the database."""
    session_id = new(fleet)["id"]
    update = text("UPDATE sessions SET status = :status WHERE id = CAST(:id AS uuid)")
    for wrong in ("zombie", "ACTIVE", ""):
        with pytest.raises(IntegrityError) as refused, fleet.engine.begin() as db:
            db.execute(update, {"id": session_id, "status": wrong})
        assert isinstance(refused.value.orig, psycopg2.errors.CheckViolation)
    with fleet.engine.connect() as db:
        words = db.execute(text("SELECT DISTINCT status FROM sessions")).scalars().all()
    assert set(words) <= set(STATUSES)


def test_unknown_words_and_unknown_sessions(fleet: RunningFleet) -> None:
    """AT-A11, AT-A5 [A-05 A-12]: VALIDATION_FAILED, SESSION_NOT_FOUND; any case of a status is understood."""
    session_id = new(fleet)["id"]
    outcomes = together(
        fleet,
        [
            ("session.set_status", {"session_id": session_id, "status": "sleeping"}),
            ("session.set_status", {"session_id": str(uuid4()), "status": "active"}),
            ("session.set_status", {"session_id": session_id, "status": "PAUSED"}),
        ],
    )
    assert codes(outcomes) == ["VALIDATION_FAILED", "SESSION_NOT_FOUND", "ok"]
    assert outcomes[0].details["fields"][0]["field"] == "status"
    assert outcomes[2]["status"] == "paused"
