"""Months and audit through real workers: operations outlive late maintenance, the duty answers (J-01..J-04, I-04)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from history.month import PARENTS
from history.partitions import list_partitions, months
from sessionfleet.errors import ValidationFailed
from tests.conftest import PrivateFleet
from tests.support import RunningFleet
from tests.support.months import SCHEMA

DUTY = "maintenance.partition_maintain"


def month_names(fleet: RunningFleet) -> list[str]:
    with fleet.engine.connect() as db:
        return [p.name for parent in PARENTS for p in list_partitions(db, SCHEMA, parent)]


def lose_all_months(fleet: RunningFleet) -> None:
    for name in month_names(fleet):
        with fleet.engine.begin() as db:
            db.execute(text(f"DROP TABLE {name}"))


def test_operations_go_on_when_maintenance_is_late(private_fleet: PrivateFleet) -> None:
    """AT-J1: no month is left; every kind of write goes through and makes the month it needs, the duty the rest."""
    fleet = private_fleet(sessions=2, maintenance=1, relay=0)
    with fleet.engine.connect() as db:
        now = db.scalar(text("SELECT now()"))
    current = [f"{parent}_{now:%Y_%m}" for parent in PARENTS]

    lose_all_months(fleet)
    session_id = fleet.call("session.create", status="active", user_id="u1")["id"]
    assert month_names(fleet) == current
    lose_all_months(fleet)
    assert fleet.call("session.emit_event", session_id=session_id, type="tool_use")["seq"]
    lose_all_months(fleet)
    assert fleet.call("session.delete_by_user", user_id="u1")["deleted"] == 1
    assert month_names(fleet) == current

    planned = fleet.call(DUTY, dry_run=True)
    assert month_names(fleet) == current
    done = fleet.call(DUTY)

    assert planned == {**done, "dry_run": True, "runway_days": planned["runway_days"]}
    assert len(done["created"]) == 6
    assert (done["finalized"], done["detached"], done["postponed"], done["skipped"]) == ([], [], [], False)
    assert {parent: 59 < days <= 123 for parent, days in done["runway_days"].items()} == dict.fromkeys(PARENTS, True)
    with fleet.engine.connect() as db:
        for parent in PARENTS:
            assert [p.lower for p in list_partitions(db, SCHEMA, parent)] == list(months(now, 4))


@pytest.mark.parametrize("arguments", [{"dry_run": "perhaps"}, {"dry_run": None}, {"now": "2030-01-01T00:00:00Z"}])
def test_bad_arguments_change_nothing(fleet: RunningFleet, arguments: dict[str, Any]) -> None:
    """Each is a typed error that names the field."""
    before = month_names(fleet)

    with pytest.raises(ValidationFailed) as refused:
        fleet.call(DUTY, **arguments)

    assert [found["field"] for found in refused.value.details["fields"]] == list(arguments)
    assert month_names(fleet) == before


def test_deleting_a_session_changes_no_audit_row(fleet: RunningFleet) -> None:
    """AT-I4: what the audit said before the deletion it says afterwards, word for word, and one row more."""
    session_id = fleet.call("session.create", status="active", user_id="u-audit")["id"]
    fleet.call("session.append_output", session_id=session_id, content="x")
    fleet.call("session.pause", session_id=session_id, reason="lunch", actor="olga")
    before = audit(fleet, session_id)
    assert before

    fleet.call("session.delete", session_id=session_id)

    after = audit(fleet, session_id)
    assert after[: len(before)] == before
    assert len(after) > len(before)


def audit(fleet: RunningFleet, session_id: str) -> list[str]:
    query = 'SELECT to_jsonb(a)::text FROM audit_events a WHERE session_id = :id ORDER BY "timestamp", event_id'
    with fleet.engine.connect() as db:
        return list(db.scalars(text(query), {"id": session_id}))
