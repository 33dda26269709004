"""A repeat that began before the first use of its key was committed (row B-13)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from sessions import unit
from sessions.store import writer
from tests.integration.sessions.test_held_rows import POLICY, engine, message  # noqa: F401 - a fixture
from tests.support import eventually
from tests.support.months import Database

WAITS = text("""
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
""")


@pytest.mark.parametrize(
    ("name", "arguments", "lost"),
    [
        ("session.append_output", {"content": "once\n"}, IntegrityError),
        ("session.start", {}, writer.KeyTaken),
    ],
    ids=["that could happen twice", "that what it left refuses"],
)
def test_a_repeat_that_waited_for_the_first_use_runs_again(
    database: Database,
    engine: Engine,  # noqa: F811 - the fixture
    name: str,
    arguments: dict[str, Any],
    lost: type[Exception],
) -> None:
    """Its snapshot has no stored answer, the row it waited for is as the first use left it: it neither happens nor is
    refused, but has lost a race, and finds the answer the next time."""
    session = f"late-{uuid4()}"
    with engine.begin() as db:
        unit.run(db, [message("session.create", external_id=session)], POLICY)
    operation = message(name, session_id=session, idempotency_key=str(uuid4()), **arguments)

    def use() -> list[list[unit.Outcome]]:
        with engine.begin() as db:
            return unit.run(db, [operation], POLICY)

    def waits() -> bool:
        with database.owner.connect() as db:
            return bool(db.execute(WAITS).scalar())

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as db:
            [[first]] = unit.run(db, [operation], POLICY)
            repeat = pool.submit(use)
            eventually(waits)
        with pytest.raises(lost):
            repeat.result(30)
    [[again]] = use()
    assert first.error is None
    assert again.replayed
    assert again.error is None
