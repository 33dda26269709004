"""What a write costs the indexes of ``sessions``: nothing, where no indexed column changes (issue 4, row Q-06)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from history.month import create_months
from sessionfleet.messages import CATALOGUE
from sessions import sweeps, unit
from sessions.policy import Policy
from tasks import all as _declared  # noqa: F401 - declares the operations
from tasks.base import DECLARED, batch_of
from tests.support.months import Database

POLICY = Policy()
BRIN = "SELECT indexname FROM pg_indexes WHERE tablename = 'sessions' AND indexdef ~ 'USING brin'"
HOT = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'sessions'"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("session.update", {"context": {"step": 0}}),
        ("session.update", {"model": "other"}),
        ("session.update_metrics", {"metrics": {"n": 1}}),
        ("session.append_output", {"content": "line\n"}),
        ("session.emit_event", {"type": "output"}),
        ("session.touch", {}),
    ],
)
def test_a_busy_session_is_updated_hot(database: Database, name: str, arguments: dict[str, Any]) -> None:
    """Forty writes: the first one behind the duty of the index of contexts is none, and a few may find no room beside
    the old row. PostgreSQL 15 has no HOT updates under BRIN indexes, so they are left out there (ADR 2)."""
    create_months(database.owner, datetime.now(UTC))
    with database.owner.begin() as db:
        if int(db.scalar(text("SHOW server_version_num"))) < 160000:
            for index in db.scalars(text(BRIN)).all():
                db.exec_driver_sql(f"DROP INDEX {index}")
    key = f"hot-{uuid4()}"
    run(database, "session.create", external_id=key, status="active", context={"step": -1})
    with database.owner.begin() as db:
        assert len(sweeps.index_contexts(db, None)) == 1
    done = hot = 0
    for step in range(40):
        more = {"context": {"step": step}} if "context" in arguments else {}
        if "model" in arguments:
            more = {"model": f"m{step}"}
        updated, of_them = run(database, name, session_id=key, **arguments | more)
        done, hot = done + updated, hot + of_them
    assert done == 40
    assert hot >= 32, hot


def run(database: Database, name: str, **arguments: Any) -> tuple[int, int]:
    """One operation in a transaction of its own: how many rows of sessions it updated, and how many of them HOT."""
    batch = batch_of(DECLARED[name], str(uuid4()), CATALOGUE[name].parse(arguments))  # type: ignore[arg-type]
    with database.owner.begin() as db:
        [[outcome]] = unit.run(db, [batch], POLICY)
        assert outcome.error is None, outcome.error
        updated, hot = db.execute(text(HOT)).one()
    return updated, hot
