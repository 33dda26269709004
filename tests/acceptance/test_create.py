"""Creating sessions through real workers (rows A-01..A-05, A-15, A-16, A-19, R-12)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from models import Session, table_of
from sessionfleet.errors import AgentNotFound, SessionExists, SessionNotFound, ValidationFailed
from tests.support import RunningFleet
from tests.support.asking import codes, events, get, new, stored, together
from tests.support.private import private_fleets

WRITABLE: dict[str, Any] = {
    "work_state": "working",
    "session_type": "development",
    "user_id": "user-1",
    "owner_id": "owner-1",
    "agent_id": "agent-1",
    "orchestrator_id": "orch",
    "conversation_id": "conv-1",
    "provider": "anthropic",
    "model": "m-1",
    "query": "Fix it",
    "current_directory": "/project",
    "process_id": 2**40,
    "runtime_backend": "kubernetes",
    "runtime_metadata": {"pod_name": "p-1"},
    "context": {"a": 1},
    "metadata": {"b": [None]},
    "checkpoint": {"step": 1},
    "account_ids": ["2", "1"],
    "tags": ["x"],
    "priority": "high",
    "timeout_seconds": 7200,
    "max_events": 50,
    "metrics": {"api_call_count": 1},
    "error_message": "none yet",
    "status_reason": "because",
}
GENERATED = {"id", "external_id", "status", "created_at", "expires_at", "last_activity", "state_version"}


def test_every_argument_is_optional_and_every_writable_column_is_kept(fleet: RunningFleet) -> None:
    """A-01, A-03: the document has what was given, also after a read from PostgreSQL."""
    bare = fleet.call("session.create")
    assert bare.keys() >= GENERATED
    assert (bare["status"], bare["session_type"], bare["priority"]) == ("initializing", "conversation", "medium")

    full = fleet.call("session.create", **WRITABLE)
    assert {name: full[name] for name in WRITABLE} == WRITABLE
    fleet.cache.delete(f"sess:doc:{full['id']}")
    read = get(fleet, full["id"])
    assert {name: read[name] for name in WRITABLE} == WRITABLE


def test_row_transition_event_and_audit_are_one_transaction(fleet: RunningFleet) -> None:
    """A-01 [D-01 I-03]: one of each, with one transaction's mark."""
    session_id = fleet.call("session.create", entity_ids=["e-1", "e-2"])["id"]
    statement = text("""
        SELECT s.xmin::text AS mark FROM sessions s WHERE id = CAST(:id AS uuid)
        UNION ALL SELECT xmin::text FROM session_transitions WHERE session_id = CAST(:id AS uuid)
        UNION ALL SELECT xmin::text FROM session_events WHERE session_id = CAST(:id AS uuid)
        UNION ALL SELECT xmin::text FROM audit_events WHERE session_id = CAST(:id AS uuid)
    """)
    with fleet.engine.connect() as db:
        marks = db.execute(statement, {"id": session_id}).scalars().all()
    assert len(marks) == 6
    assert len(set(marks)) == 1
    created, start = events(fleet, session_id)
    assert created["event_name"] == "session.created"
    assert start["event_name"] == "start"
    assert start["payload"]["change_info"] == {
        "elementType": "session",
        "entityIds": ["e-1", "e-2"],
        "operation": "start",
    }


def test_the_table_has_every_column_and_every_instant_has_a_zone(fleet: RunningFleet) -> None:
    """A-03: what the row names, in the database as it is; instants are timestamptz."""
    named = (
        "status status_reason end_reason work_state session_type user_id owner_id agent_id orchestrator_id "
        "conversation_id provider model query current_directory process_id runtime_backend runtime_metadata "
        "context context_version metadata checkpoint account_ids tags priority timeout_seconds max_events last_seq "
        "state_version lease_epoch metrics error_message recovery_needed recovery_type last_activity last_heartbeat "
        "created_at started_at updated_at expires_at warned_at ended_at archived_at deleted_at"
    )
    columns = text("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'sessions'")
    with fleet.engine.connect() as db:
        types = dict(db.execute(columns).all())
    assert set(named.split()) <= types.keys()
    instants = {name for name in types if name.endswith("_at") or name.startswith("last_act")}
    assert {types[name] for name in instants} == {"timestamp with time zone"}
    assert types.keys() == set(table_of(Session).c.keys())


def test_either_key_finds_a_session_in_every_task(fleet: RunningFleet) -> None:
    """A-02: uuid in any spelling, external id."""
    external_id = f"my own/{uuid4()}"
    session = new(fleet, external_id=external_id)
    spellings = [session["id"], session["id"].upper(), session["id"].replace("-", ""), external_id]
    outcomes = together(fleet, [("session.get", {"session_id": key}) for key in spellings])
    assert {outcome["id"] for outcome in outcomes} == {session["id"]}
    outcomes = together(fleet, [("session.touch", {"session_id": key}) for key in spellings])
    assert {outcome["id"] for outcome in outcomes} == {session["id"]}
    assert fleet.call("session.history", session_id=external_id)["items"]


def test_generated_ids_have_their_forms(fleet: RunningFleet) -> None:
    """A-02, AT-A6: sess-{uuid}, or session_{orchestrator_id}_{12 hex}, which starts as initializing."""
    plain = fleet.call("session.create")
    assert plain["external_id"] == f"sess-{UUID(plain['id'])}"
    orchestrated = fleet.call("session.create", orchestrator_id="orch7")
    assert re.fullmatch(r"session_orch7_[0-9a-f]{12}", orchestrated["external_id"])
    assert orchestrated["status"] == "initializing"


def test_the_longest_id_is_taken_by_every_task(fleet: RunningFleet) -> None:
    """A-02: the one that is generated of the longest orchestrator id."""
    made = new(fleet, orchestrator_id="o" * 255)
    longest = made["external_id"]
    assert len(longest) == 276
    steps = [{"name": "session.touch", "arguments": {"session_id": longest}}]
    calls = [(name, {"session_id": longest}) for name in ("get", "attach", "history", "read_output", "get_events")]
    calls += [("touch", {"session_id": longest}), ("get_many", {"session_ids": [longest]})]
    calls += [("apply", {"operations": steps}), ("create", {"external_id": longest, "if_exists": "return"})]
    outcomes = together(fleet, [(f"session.{name}", arguments) for name, arguments in calls])
    assert codes(outcomes) == ["ok"] * len(calls)
    assert outcomes[0]["id"] == outcomes[6]["items"][0]["id"] == outcomes[8]["id"] == made["id"]
    for name in ("session.get", "session.touch"):
        with pytest.raises(ValidationFailed):
            fleet.call(name, session_id="x" * 277)


def test_a_taken_id_is_refused_or_returned(fleet: RunningFleet) -> None:
    """A-02, AT-A6: E:SESSION_EXISTS for either id, whichever is named; `if_exists=return` changes nothing."""
    holder, other = new(fleet, external_id=f"x-{uuid4()}"), new(fleet)
    before = stored(fleet, holder["id"])
    taken = [
        {"external_id": holder["external_id"]},
        {"id": holder["id"]},
        {"id": holder["id"], "external_id": f"free-{uuid4()}"},
        {"id": str(uuid4()), "external_id": holder["external_id"]},
        {"id": other["id"], "external_id": holder["external_id"]},
        {"external_id": holder["id"]},
    ]
    outcomes = together(fleet, [("session.create", arguments) for arguments in taken])
    assert codes(outcomes) == ["SESSION_EXISTS"] * len(taken)
    assert {outcome.details["session_id"] for outcome in outcomes} <= {holder["id"], other["id"]}
    again = fleet.call("session.create", external_id=holder["external_id"], if_exists="return", context={"new": 1})
    assert (again["id"], again["context"], again["changed"]) == (holder["id"], {}, False)
    assert stored(fleet, holder["id"]) == before


def test_the_name_a_session_would_get_of_its_id_may_be_taken(fleet: RunningFleet) -> None:
    """A-02: by somebody who gave it as external id, before or in the same batch; others are not held up."""
    id_ = str(uuid4())
    holder = new(fleet, external_id=f"sess-{id_}")
    with pytest.raises(SessionExists) as refused:
        fleet.call("session.create", id=id_)
    assert refused.value.details == {"external_id": holder["external_id"], "session_id": holder["id"]}
    assert fleet.call("session.create", id=id_, if_exists="return")["id"] == holder["id"]
    assert fleet.call("session.create", id=id_, orchestrator_id="o")["id"] == id_
    other = str(uuid4())
    wanted = ({"external_id": f"sess-{other}"}, {"id": other}, {})
    steps = [{"name": "session.create", "arguments": arguments} for arguments in wanted]
    items = fleet.call("session.apply", operations=steps, whole="operation")["items"]
    assert [item.get("error", {}).get("code") for item in items] == [None, "SESSION_EXISTS", None]


def test_an_id_of_a_deleted_session_stays_taken_its_external_id_is_free(fleet: RunningFleet) -> None:
    """A-02, Q-07: the tombstone keeps its uuid."""
    gone = new(fleet, external_id=f"x-{uuid4()}")
    fleet.call("session.delete", session_id=gone["id"])
    for if_exists in ("error", "return"):
        with pytest.raises(SessionExists):
            fleet.call("session.create", id=gone["id"], if_exists=if_exists)
    again = fleet.call("session.create", external_id=gone["external_id"])
    assert again["id"] != gone["id"]
    assert get(fleet, gone["external_id"])["id"] == again["id"]
    with pytest.raises(SessionNotFound):
        get(fleet, gone["id"])


@pytest.mark.parametrize("older", ["by id", "by external id"])
def test_a_uuid_names_the_session_that_has_it_as_id(fleet: RunningFleet, older: str) -> None:
    """A-02: where two creations at the same moment left another session with it as external id, PostgreSQL's reads
    find the session that writes find."""
    first = str(uuid4())
    if older == "by external id":
        other = new(fleet)["id"]
    new(fleet, id=first)
    if older == "by id":
        other = new(fleet)["id"]
    with fleet.engine.begin() as db:
        db.execute(
            text("UPDATE sessions SET external_id = :key WHERE id = CAST(:id AS uuid)"), {"key": first, "id": other}
        )
    fleet.cache.delete(f"sess:doc:{first}", f"sess:doc:{other}")
    reads = [("session.get", {}), ("session.attach", {}), ("session.touch", {})]
    found = together(fleet, [(name, {"session_id": first, **more}) for name, more in reads])
    assert [one.get("session", one)["id"] for one in found] == [first] * 3


def test_100_parallel_creates_of_10_clients_get_100_ids(fleet: RunningFleet) -> None:
    """AT-A6 [A-02 A-19]: also five rivals for one external id, of which one wins."""

    def ten(_: int) -> list[Any]:
        return together(fleet, [("session.create", {"orchestrator_id": "o"})] * 10)

    with ThreadPoolExecutor(10) as clients:
        created = [document for documents in clients.map(ten, range(10)) for document in documents]
    assert len({document["id"] for document in created}) == 100
    assert len({document["external_id"] for document in created}) == 100

    wanted = f"one-{uuid4()}"
    outcomes = together(fleet, [("session.create", {"external_id": wanted})] * 5)
    assert sorted(codes(outcomes)) == ["SESSION_EXISTS"] * 4 + ["ok"]


@pytest.mark.parametrize("status", ["idle", "paused", "completed", "crashed", "pending", "", "ACTIVE"])
def test_only_two_statuses_are_initial(fleet: RunningFleet, status: str) -> None:
    """AT-A11 [A-05]."""
    with pytest.raises(ValidationFailed) as refused:
        fleet.call("session.create", status=status)
    assert refused.value.details["fields"][0]["field"] == "status"


def test_a_free_type_is_kept_and_an_unfit_one_refused(fleet: RunningFleet) -> None:
    """AT-A11 [A-15]: recovery never changes it."""
    session_id = new(fleet, session_type="my_own_type_7")["id"]
    fleet.call("session.crash", session_id=session_id)
    assert fleet.call("session.recover", session_id=session_id)["session_type"] == "my_own_type_7"
    for unfit in ("My Type", "x" * 65, ""):
        with pytest.raises(ValidationFailed):
            fleet.call("session.create", session_type=unfit)


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningFleet]:
    """A fleet that checks agents and types."""
    with private_fleets() as make:
        yield make(relay=0, FLEET_CHECK_AGENTS="true", FLEET_STRICT_SESSION_TYPES="true")


def test_with_check_agents_an_unregistered_agent_is_refused(strict: RunningFleet) -> None:
    """AT-A11 [A-16]: at creation and later; text without foreign key otherwise."""
    with pytest.raises(AgentNotFound) as refused:
        strict.call("session.create", agent_id="ghost")
    assert refused.value.details["agent_id"] == "ghost"
    strict.call("agent.heartbeat", agent_id="known")
    session_id = strict.call("session.create", agent_id="known")["id"]
    with pytest.raises(AgentNotFound):
        strict.call("session.update", session_id=session_id, agent_id="ghost")
    assert strict.call("session.create")["agent_id"] is None


def test_with_strict_types_only_the_known_ones_pass(strict: RunningFleet) -> None:
    """A-15: nine words."""
    known = ["conversation", "development", "task", "batch", "runtime"]
    known += ["scheduled", "on_demand", "manual", "recovery"]
    calls = [("session.create", {"session_type": word}) for word in [*known, "free"]]
    assert codes(together(strict, calls)) == ["ok"] * 9 + ["VALIDATION_FAILED"]
    session_id = strict.call("session.create")["id"]
    with pytest.raises(ValidationFailed):
        strict.call("session.update", session_id=session_id, session_type="free")
