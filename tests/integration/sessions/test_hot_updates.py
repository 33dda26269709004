"""What a write costs the indexes of ``sessions``: nothing, where no indexed column changes (issue 4, row Q-06)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

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


WRITES: list[tuple[str, Callable[[int], dict[str, Any]]]] = [
    ("session.update", lambda step: {"context": {"step": step}}),
    ("session.update", lambda step: {"model": f"m{step}"}),
    ("session.update_metrics", lambda _: {"metrics": {"n": 1}}),
    ("session.append_output", lambda _: {"content": "line\n"}),
    ("session.emit_event", lambda _: {"type": "output"}),
    ("session.touch", lambda _: {}),
]


@pytest.fixture
def writer(database: Database) -> Iterator[Engine]:
    """Its owner again, on a connection that stays open, as that of a worker: hundreds of writes go over it."""
    engine = create_engine(database.url)
    yield engine
    engine.dispose()


def test_a_busy_session_is_updated_hot(database: Database, writer: Engine) -> None:
    """Of forty writes the first one behind the duty of the index of contexts is no HOT update, and a few may find no
    room beside the old row (ADR 2)."""
    prepare(database)
    for name, arguments in WRITES:
        key = f"hot-{uuid4()}"
        run(writer, "session.create", external_id=key, status="active", context={"step": -1})
        with writer.begin() as db:
            sweeps.index_contexts(db, None)
            assert any(one.indexed for one in sweeps.index_contexts(db, None))
        counts = [run(writer, name, session_id=key, **arguments(step)) for step in range(40)]
        assert sum(updated for updated, _ in counts) == 40, name
        assert sum(hot for _, hot in counts) >= 32, (name, counts)


def test_the_duty_leaves_a_context_that_keeps_changing_to_hot_updates(database: Database, writer: Engine) -> None:
    """A session that is written all the time costs no entry in any index, however often the duty looks."""
    prepare(database)
    key = f"hot-{uuid4()}"
    run(writer, "session.create", external_id=key, status="active", context={"step": -1})
    looks = []
    for step in range(40):
        run(writer, "session.update", session_id=key, context={"step": step})
        with writer.begin() as db:
            before = updates(db)
            assert not any(one.indexed for one in sweeps.index_contexts(db, None))
            looks.append(since(db, before))
    assert sum(updated for updated, _ in looks) == 40
    assert sum(hot for _, hot in looks) >= 36, looks


def prepare(database: Database) -> None:
    """Months to write to; on PostgreSQL 15 no BRIN indexes, which stop all HOT updates there."""
    create_months(database.owner, datetime.now(UTC))
    with database.owner.begin() as db:
        if int(db.scalar(text("SHOW server_version_num"))) < 160000:
            for index in db.scalars(text(BRIN)).all():
                db.exec_driver_sql(f"DROP INDEX {index}")


def run(engine: Engine, name: str, **arguments: Any) -> tuple[int, int]:
    """One operation in a transaction of its own: how many rows of sessions it updated, and how many of them HOT."""
    batch = batch_of(DECLARED[name], str(uuid4()), CATALOGUE[name].parse(arguments))  # type: ignore[arg-type]
    with engine.begin() as db:
        before = updates(db)
        [[outcome]] = unit.run(db, [batch], POLICY)
        assert outcome.error is None, outcome.error
        return since(db, before)


def updates(db: Connection) -> tuple[int, int]:
    """Updated rows of sessions and how many of them HOT. Transactions of one connection that follow at once are
    counted together."""
    updated, hot = db.execute(text(HOT)).one()
    return updated, hot


def since(db: Connection, before: tuple[int, int]) -> tuple[int, int]:
    updated, hot = updates(db)
    return updated - before[0], hot - before[1]
