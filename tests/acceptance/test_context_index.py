"""Lists filtered by context: complete at any moment, read by an index, without an entry for every write (Q-06)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from sessions import sweeps
from tests.support import RunningFleet, eventually
from tests.support.months import Database

DUTY = "maintenance.index_contexts"

CONTAINED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"key": 1}, {"key": 1}),
    ({"key": 1}, {"key": 1.0}),
    ({"key": 100}, {"key": 1e2}),
    ({"key": 0.10}, {"key": 0.1}),
    ({"a": {"b": {"c": None}}, "d": 1}, {"a": {"b": {"c": None}}}),
    ({"a": [1, {"b": [2, 3]}, "x"]}, {"a": ["x", {"b": [3]}]}),
    ({"a": [[1, 2], [3]]}, {"a": [[3]]}),
    ({"a": {"b": 1}, "c": []}, {"a": {}, "c": []}),
    ({"é\u2028": 'quo"te\n', "t": True}, {"é\u2028": 'quo"te\n', "t": True}),
    ({"a": 1}, {}),
]


def found(fleet: RunningFleet, agent: str, context: dict[str, Any]) -> list[str]:
    """Ids of the sessions of an agent with this in their context."""
    return [item["id"] for item in fleet.call("session.list", agent_id=agent, context=context)["items"]]


def index(fleet: RunningFleet) -> int:
    """Have all contexts indexed that nobody is changing; how many were. The first look finds new ones changing."""
    first, second = fleet.call(DUTY, 60), fleet.call(DUTY, 60)
    return int(first["indexed"]) + int(second["indexed"])


def test_a_session_is_found_before_and_after_it_is_indexed(fleet: RunningFleet) -> None:
    """Q-06: as PostgreSQL's own @> has it."""
    agent = "index-1"
    ids = [fleet.call("session.create", agent_id=agent, context=context)["id"] for context, _ in CONTAINED]
    for indexed in (False, True):
        if indexed:
            assert index(fleet) >= len(ids)
        for id_, (_, wanted) in zip(ids, CONTAINED, strict=True):
            assert id_ in found(fleet, agent, wanted), (indexed, wanted)
        assert found(fleet, agent, {"key": 2}) == found(fleet, agent, {"a": [4]}) == []


def test_a_change_is_found_at_once(fleet: RunningFleet) -> None:
    """Q-06: by what a context has become, never by what it was."""
    agent = "index-2"
    id_ = fleet.call("session.create", agent_id=agent, context={"step": 1})["id"]
    index(fleet)
    fleet.call("session.update", session_id=id_, context={"step": 2})
    assert found(fleet, agent, {"step": 2}) == [id_]
    assert found(fleet, agent, {"step": 1}) == []
    assert index(fleet) >= 1
    assert found(fleet, agent, {"step": 2}) == [id_]
    assert found(fleet, agent, {"step": 1}) == []


def test_a_duty_without_work_does_none(fleet: RunningFleet) -> None:
    """An update of something else leaves the index of contexts alone."""
    id_ = fleet.call("session.create", context={"step": 1})["id"]
    eventually(lambda: fleet.call(DUTY) == {"indexed": 0, "changing": 0})
    fleet.call("session.update", session_id=id_, model="other")
    fleet.call("session.touch", session_id=id_)
    assert fleet.call(DUTY) == {"indexed": 0, "changing": 0}


def test_a_context_that_keeps_changing_is_not_indexed(fleet: RunningFleet) -> None:
    """It would be pending again at once; found it is all the same. One that nobody has written for a minute is
    indexed at the first look."""
    agent = "index-6"
    id_ = fleet.call("session.create", agent_id=agent, context={"step": 0})["id"]
    index(fleet)
    for step in range(1, 4):
        fleet.call("session.update", session_id=id_, context={"step": step})
        assert fleet.call(DUTY)["changing"] >= 1
        assert is_pending(fleet, id_)
        assert found(fleet, agent, {"step": step}) == [id_]
    fleet.call("session.touch", session_id=id_)
    fleet.call(DUTY)
    assert not is_pending(fleet, id_)
    fleet.call("session.update", session_id=id_, context={"step": 4})
    with fleet.engine.begin() as db:
        late = text("UPDATE sessions SET updated_at = updated_at - interval '61 seconds' WHERE id = :id")
        db.execute(late, {"id": id_})
    fleet.call(DUTY)
    assert not is_pending(fleet, id_)
    assert found(fleet, agent, {"step": 4}) == [id_]


def test_a_long_way_to_many_values(fleet: RunningFleet) -> None:
    """What a context costs goes by its size, not by its values times the way to them: one of these stopped the duty,
    and whoever asked for it."""
    agent, context = "index-5", {"k" * 200_000: {"in": list(range(20_000))}}
    id_ = fleet.call("session.create", agent_id=agent, context=context)["id"]
    assert index(fleet) >= 1
    assert not is_pending(fleet, id_)
    assert found(fleet, agent, context) == [id_]


def test_large_contexts_are_taken_few_at_a_time(fleet: RunningFleet) -> None:
    """A hundred of the largest in one statement would take longer than a statement may."""
    index(fleet)
    large = [json.dumps({"v": [[n, place] for place in range(20_000)]}) for n in range(3)]
    ids = {fleet.call("session.create", context=json.loads(one))["id"] for one in large}
    ids |= {fleet.call("session.create", context={"v": n})["id"] for n in range(3)}
    fleet.call(DUTY)
    with fleet.engine.begin() as db:
        last, batches = None, []
        while batch := sweeps.index_contexts(db, last):
            last = batch[-1].id
            batches.append(ids & {str(one.id) for one in batch if one.indexed})
    assert set().union(*batches) == ids
    assert len([batch for batch in batches if batch]) >= 3
    assert not any(is_pending(fleet, id_) for id_ in ids)


def test_a_session_somebody_writes_to_stays_pending(fleet: RunningFleet) -> None:
    """The duty waits for no row, and never takes a change for indexed that it has not seen."""
    agent = "index-3"
    id_ = fleet.call("session.create", agent_id=agent, context={"step": 1})["id"]
    change = text("UPDATE sessions SET context = '{\"step\": 2}' WHERE id = :id")
    with fleet.engine.begin() as db:
        db.execute(change, {"id": id_})
        index(fleet)
        assert found(fleet, agent, {"step": 1}) == [id_]
    assert found(fleet, agent, {"step": 2}) == [id_]
    assert is_pending(fleet, id_)
    index(fleet)
    assert not is_pending(fleet, id_)
    assert found(fleet, agent, {"step": 2}) == [id_]


def test_a_writer_that_waited_for_the_duty_is_pending_again(fleet: RunningFleet) -> None:
    """It changes a row that was indexed after its own statement had begun."""
    agent = "index-4"
    id_ = fleet.call("session.create", agent_id=agent, context={"step": 1})["id"]
    fleet.call(DUTY)
    with fleet.engine.begin() as db:
        seen: list[sweeps.Seen] = []
        while batch := sweeps.index_contexts(db, seen[-1].id if seen else None):
            seen += batch
        assert id_ in [str(one.id) for one in seen if one.indexed]
        waiting = fleet.client.submit("session.update", session_id=id_, context={"step": 2})
        eventually(lambda: waiters(fleet) >= 1)
    waiting.result(30)
    assert is_pending(fleet, id_)
    assert found(fleet, agent, {"step": 2}) == [id_]


def waiters(fleet: RunningFleet) -> int:
    """Statements of the fleet that wait for a lock."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with fleet.engine.connect() as db:
        return int(db.execute(text(statement)).scalar_one())


def is_pending(fleet: RunningFleet, id_: str) -> bool:
    with fleet.engine.connect() as db:
        return bool(db.execute(text("SELECT context_pending FROM sessions WHERE id = :id"), {"id": id_}).scalar_one())


SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from([0.5, -0.0, 1e30, "", "1", 'é"\\'])
NAMES = st.sampled_from(["a", "b", "", "é", "a.b"])
OBJECTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
    ),
    max_size=3,
)


@st.composite
def wholes_and_parts(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A context and one that it contains, with numbers in another spelling."""

    def part(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: part(inner) for name, inner in value.items() if draw(st.booleans())}
        if isinstance(value, list):
            return [part(inner) for inner in draw(st.permutations(value)) if draw(st.booleans())]
        return float(value) if type(value) is int else value

    whole = draw(OBJECTS)
    return whole, part(whole)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.owner.connect() as db:
        yield db


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wholes_and_parts())
def test_what_is_contained_has_no_key_of_its_own(connection: Connection, both: tuple[Any, Any]) -> None:
    """The index may find too much, which is compared, but never too little."""
    whole, part = map(json.dumps, both)
    contained, keys = connection.execute(
        text("""
            SELECT CAST(:whole AS jsonb) @> CAST(:part AS jsonb),
                containment_keys(CAST(:whole AS jsonb)) @> containment_keys(CAST(:part AS jsonb))
        """),
        {"whole": whole, "part": part},
    ).one()
    assert (contained, keys) == (True, True)


def test_another_value_has_another_key(connection: Connection) -> None:
    """Else every session would be looked at."""
    other = 'SELECT containment_keys(\'{"a": {"b": 1}}\') && containment_keys(\'{"a": {"b": 2, "c": 1}, "b": 1}\')'
    assert connection.execute(text(other.replace(":", "\\:"))).scalar_one() is False
