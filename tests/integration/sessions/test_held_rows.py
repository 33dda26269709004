"""Running messages together without waiting for the rows that somebody holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine

from history.month import create_months
from sessionfleet.messages import CATALOGUE
from sessions import unit
from sessions.change import Batch, Outcome
from sessions.policy import Policy
from sessions.store import loader
from tasks import all as _declared  # noqa: F401 - declares the operations
from tasks.base import DECLARED, batch_of
from tests.support.months import Database

POLICY = Policy()


@pytest.fixture
def engine(database: Database) -> Engine:
    create_months(database.owner, datetime.now(UTC))
    return database.owner


def message(name: str, **arguments: Any) -> Batch:
    return batch_of(DECLARED[name], str(uuid4()), CATALOGUE[name].parse(arguments))  # type: ignore[arg-type]


def update(key: str, **more: Any) -> Batch:
    return message("session.update", session_id=key, context={"n": 1}, **more)


def apply(*keys: str, whole: str = "batch") -> Batch:
    steps = [{"name": "session.update", "arguments": {"session_id": key, "context": {"n": 2}}} for key in keys]
    return message("session.apply", operations=steps, whole=whole)


def words(outcomes: list[list[Outcome]]) -> list[list[str]]:
    def word(one: Outcome) -> str:
        return "held" if one.held else "ok" if one.error is None else one.error.code

    return [[word(one) for one in each] for each in outcomes]


def run(db: Connection, *batches: Batch, skip_held: bool = True) -> list[list[str]]:
    return words(unit.run(db, batches, POLICY, skip_held=skip_held))


def test_what_is_on_a_held_row_is_left_out_with_all_behind_it(engine: Engine) -> None:
    """A-08: in order per session, by whatever name it is called; what is not there is told from what is held."""
    names = [f"held-{uuid4()}" for _ in range(5)]
    with engine.begin() as db:
        made = unit.run(db, [message("session.create", external_id=name, status="active") for name in names], POLICY)
        ids = {name: outcome.record.id for name, [outcome] in zip(names, made, strict=True) if outcome.record}
    held, free, with_it, behind, other = names
    batches = [
        update(free),
        update(ids[held].upper()),
        apply(with_it, held),
        update(ids[with_it]),
        apply(behind, with_it),
        update(behind),
        update(other),
        update("nobody"),
        message("session.create", external_id=held),
    ]
    with engine.begin() as holder, engine.begin() as db:
        loader.lock(holder, [held], [])
        left, both = ["held"], ["held", "held"]
        assert run(db, *batches) == [["ok"], left, both, left, both, left, ["ok"], ["SESSION_NOT_FOUND"], left]
    with engine.begin() as db:
        assert run(db, *batches[1:6], batches[8]) == [
            ["ok"], ["ok", "ok"], ["ok"], ["ok", "ok"], ["ok"], ["SESSION_EXISTS"],
        ]  # fmt: skip


@pytest.mark.parametrize("whole", ["operation", "session", "batch"])
def test_of_a_list_only_what_belongs_to_a_held_row_is_left_out(engine: Engine, whole: str) -> None:
    """The other operations of a list on many sessions do not wait, unless all of it is to happen or none."""
    held, free, other = names = [f"held-{uuid4()}" for _ in range(3)]
    with engine.begin() as db:
        unit.run(db, [message("session.create", external_id=name, status="active") for name in names], POLICY)
    batches = [apply(free, held, other, held, free, whole=whole), update(free), update(other)]
    with engine.begin() as holder, engine.begin() as db:
        loader.lock(holder, [held], [])
        if whole == "batch":
            assert run(db, *batches) == [["held"] * 5, ["held"], ["held"]]
        else:
            assert run(db, *batches) == [["ok", "held", "ok", "held", "ok"], ["ok"], ["ok"]]


def test_a_new_session_is_left_out_with_what_must_follow_it(engine: Engine) -> None:
    """Its uuid is free, its name is on a held row: what comes after it on the uuid waits, too."""
    held, id_ = f"held-{uuid4()}", str(uuid4())
    with engine.begin() as db:
        unit.run(db, [message("session.create", external_id=held, status="active")], POLICY)
    create = {"name": "session.create", "arguments": {"id": id_, "external_id": held}}
    touch = {"name": "session.touch", "arguments": {"session_id": id_}}
    batch = message("session.apply", operations=[create, touch], whole="operation")
    with engine.begin() as holder, engine.begin() as db:
        loader.lock(holder, [held], [])
        assert run(db, batch) == [["held", "held"]]
    with engine.begin() as db:
        assert run(db, batch) == [["SESSION_EXISTS", "SESSION_NOT_FOUND"]]


def test_nothing_but_held_rows(engine: Engine) -> None:
    name = f"held-{uuid4()}"
    with engine.begin() as db:
        unit.run(db, [message("session.create", external_id=name, status="active")], POLICY)
    with engine.begin() as holder, engine.begin() as db:
        loader.lock(holder, [name], [])
        assert run(db, update(name), update(name)) == [["held"], ["held"]]


def test_a_name_that_is_a_uuid_in_another_spelling(engine: Engine) -> None:
    """A-02: an external id may look like that; a held row goes by it as well."""
    name = str(uuid4()).upper()
    with engine.begin() as db:
        unit.run(db, [message("session.create", external_id=name, status="active")], POLICY)
    with engine.begin() as holder, engine.begin() as db:
        loader.lock(holder, [name], [])
        assert run(db, update(name)) == [["held"]]
    with engine.begin() as db:
        assert run(db, update(name)) == [["ok"]]
