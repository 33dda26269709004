"""What JSON values and sizes come through, and what stored patches replay to (rows B-07, B-08, B-14)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import jsonpatch
import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionfleet.errors import CheckpointTooLarge, PayloadTooLarge, SessionNotFound, ValidationFailed
from tests.support import RunningFleet
from tests.support.asking import events, get, new, refresh, stored, together

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(-1e15, 1e15).map(lambda value: value + 0.0)  # zero has no sign
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("añ. /~\"'", max_size=3), inner, max_size=3),
    max_leaves=12,
)


def exact(value: Any) -> str:
    """Text that differs where JSON differs."""
    return json.dumps(value, sort_keys=True)


def test_any_json_returns_equal(fleet: RunningFleet) -> None:
    """AT-B6 [B-07]: through client, broker, worker, PostgreSQL, and back by cache and by table."""

    @settings(max_examples=30)
    @given(st.lists(json_values, max_size=8))
    def round_trips(values: list[Any]) -> None:
        created = new(fleet, context={"v": values}, checkpoint={"v": values})
        cached = get(fleet, created["id"])
        for found in (created, cached, refresh(fleet, created["id"])):
            assert exact(found["context"]["v"]) == exact(found["checkpoint"]["v"]) == exact(values)

    round_trips()


def test_zero_has_no_sign(fleet: RunningFleet) -> None:
    """B-07: jsonb knows no negative zero, so no answer and no cached document shows one that the row has not."""
    created = new(fleet, context={"v": [-0.0, {"in": -0.0}]})
    for found in (created, get(fleet, created["id"]), refresh(fleet, created["id"])):
        assert exact(found["context"]["v"]) == exact([0.0, {"in": 0.0}])


HUGE = [1e16, 1e22, 1e23, -1e23, 3.3e40, 1.7976931348623157e308, 123456789012345678901.5]


def test_a_huge_float_is_the_number_it_was(fleet: RunningFleet) -> None:
    """B-04, B-07: jsonb has no floats; what it makes of one is equal to it, and the same float again is no change."""
    urls = {"broker": fleet.settings.broker_url, "backend": fleet.settings.result_url}
    session_id = new(fleet, context={"v": HUGE, "in": {"v": HUGE}})["id"]
    for found in (get(fleet, session_id), refresh(fleet, session_id)):
        assert found["context"] == {"v": HUGE, "in": {"v": HUGE}}
    again = {"session_id": session_id, "context": {"v": HUGE, "in": {"v": HUGE}}}
    assert fleet.call("session.update", **again)["changed"] is False
    assert fleet.call("session.update", **again, mode="shallow")["changed"] is False
    with Celery("elsewhere", set_as_current=False, **urls) as app:
        answer = app.send_task("session.update", kwargs=again, queue="sessions").get(timeout=60)
    assert answer["changed"] is False
    test = [{"op": "test", "path": "/v", "value": HUGE}]
    assert fleet.call("session.update", session_id=session_id, mode="patch", context=test)["changed"] is False


def test_instants_and_sets_have_a_json_form_and_the_rest_a_path(fleet: RunningFleet) -> None:
    """AT-B6 [B-07]: ISO 8601 with offset, sorted lists; what JSON cannot hold is named by its path."""
    at = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    created = new(fleet, context={"at": at, "set": {"b", "a"}, "id": (one := uuid4())})
    assert created["context"] == {"at": "2026-03-29T01:30:00+02:00", "set": ["a", "b"], "id": str(one)}
    unfit = [(object(), "object"), (float("nan"), "nan"), (datetime(2026, 1, 1), "time zone"), (b"x", "bytes")]  # noqa: DTZ001
    unfit += [(10**4300, "digits"), (-(10**4300), "digits")]
    for value, word in unfit:
        with pytest.raises(ValidationFailed, match=word) as refused:
            new(fleet, context={"list": [{"ok": 1}, {"bad": value}]})
        assert "$.list[1].bad" in refused.value.message
        assert refused.value.details["fields"][0]["field"] == "context"
    assert datetime.fromisoformat(created["created_at"]).astimezone(UTC)


LOOKALIKES: list[Any] = [
    {"__type__": "foo", "__value__": 1},
    {"__type__": ["datetime"], "__value__": None},
    {"__type__": "datetime"},
    {"__type__": "datetime", "__value__": 1, "more": 2},
]


def test_objects_that_look_like_celerys_notation_come_through(fleet: RunningFleet) -> None:
    """B-07: what Celery's JSON would take for one of its own, and could not read, is just an object."""
    created = new(fleet, context={"list": LOOKALIKES})
    assert refresh(fleet, created["id"])["context"] == {"list": LOOKALIKES}
    for word, value in [("datetime", "2026-01-01T00:00:00+00:00"), ("uuid", "zzz"), ("bytes", "abc")]:
        with pytest.raises(ValidationFailed, match=r"\$\.a\.b: .*__type__"):
            new(fleet, context={"a": {"b": {"__type__": word, "__value__": value}}})


def test_a_raw_producers_python_values_have_their_json_form(fleet: RunningFleet) -> None:
    """B-07: what a plain Celery app sends as its own notation; and what it cannot send is refused by the worker."""
    urls = {"broker": fleet.settings.broker_url, "backend": fleet.settings.result_url}
    with Celery("elsewhere", set_as_current=False, **urls) as app:

        def send(context: Any) -> Any:
            return app.send_task("session.create", kwargs={"context": context}, queue="sessions").get(timeout=60)

        one, at = uuid4(), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
        assert send({"at": at, "id": one})["context"] == {"at": "2026-03-29T01:30:00+00:00", "id": str(one)}
        for unfit in (b"x", Decimal("1.5"), {"__type__": "uuid", "__value__": "zzz"}, datetime(2026, 1, 1)):  # noqa: DTZ001
            with pytest.raises(ValidationFailed, match=r"\$\.a: "):
                send({"a": unfit})


LIMITS = [("context", 1048576), ("metadata", 65536), ("runtime_metadata", 65536)]


@pytest.mark.parametrize(("field", "limit"), LIMITS)
def test_one_byte_over_its_limit_a_document_is_refused(fleet: RunningFleet, field: str, limit: int) -> None:
    """AT-B11 [B-08]: with size and limit, at creation and later, nothing written; the limit itself passes."""
    exact = {"a": "é" * ((limit - 8) // 2)}
    over = {"a": exact["a"] + "x"}
    assert len(json.dumps(exact, ensure_ascii=False, separators=(",", ":")).encode()) == limit
    session_id = new(fleet, **{field: exact})["id"]
    before = stored(fleet, session_id)
    external_id = f"over-{uuid4()}"
    refusals = together(
        fleet,
        [
            ("session.update", {"session_id": session_id, field: over}),
            ("session.create", {"external_id": external_id, field: over}),
        ],
    )
    for refused in refusals:
        assert isinstance(refused, PayloadTooLarge)
        assert refused.details == {"field": field, "size": limit + 1, "limit": limit}
    assert stored(fleet, session_id) == before
    with pytest.raises(SessionNotFound):
        get(fleet, external_id)


def test_a_checkpoint_over_its_limit_has_its_own_code(fleet: RunningFleet) -> None:
    """B-08: 10485760 bytes."""
    with pytest.raises(CheckpointTooLarge) as refused:
        fleet.call("session.create", checkpoint={"a": "x" * (10485760 - 7)}, timeout=60)
    assert refused.value.details == {"field": "checkpoint", "size": 10485761, "limit": 10485760}


def test_an_event_has_its_limit_too(fleet: RunningFleet) -> None:
    """B-08: 1048576 bytes of payload."""
    session_id = new(fleet)["id"]
    with pytest.raises(PayloadTooLarge):
        fleet.call("session.emit_event", session_id=session_id, type="new", payload={"a": "x" * 1048576})
    with pytest.raises(PayloadTooLarge):
        fleet.call("session.create", entity_ids=[f"{n:0>250}" for n in range(5000)])


def test_a_bare_session_costs_under_a_kilobyte(fleet: RunningFleet) -> None:
    """B-08: its row, as PostgreSQL stores it."""
    session_id = fleet.call("session.create")["id"]
    with fleet.engine.connect() as db:
        statement = "SELECT pg_column_size(s.*) FROM sessions AS s WHERE id = %s"
        size = db.exec_driver_sql(statement, (session_id,)).scalar_one()
    assert size < 1024


def test_stored_patches_replay_to_the_present(fleet: RunningFleet) -> None:
    """AT-B11 [B-14]: every update event has patch, version_from and version_to."""
    session_id = new(fleet, context={"a": {"b": [1]}}, user_id="u1")["id"]
    for arguments in (
        {"context": {"a": {"c": 2}, "d/~": 1}},
        {"mode": "append", "context": {"a": {"b": [2]}}, "tags": ["t"]},
        {"mode": "patch", "context": [{"op": "move", "from": "/a/b", "path": "/moved"}]},
        {"mode": "shallow", "context": {"a": None}, "metadata": {"m": 1}},
        {"user_id": None, "checkpoint": {"s": 1}, "status": "paused"},
        {"context": {"moved": [0]}},
    ):
        fleet.call("session.update", session_id=session_id, **arguments)
    fleet.call("session.set_status", session_id=session_id, status="processing", process_id=9, reason="on")

    replayed: dict[str, Any] = {}
    version = 0
    for event in events(fleet, session_id):
        if "patch" in event["metadata"]:
            assert event["metadata"]["version_from"] == version
            version = event["metadata"]["version_to"]
            replayed = jsonpatch.apply_patch(replayed, event["metadata"]["patch"])
    present = refresh(fleet, session_id)
    assert replayed["context"] == {"d/~": 1, "moved": [0]}
    assert replayed == {name: present[name] for name in replayed}
    assert {"context", "metadata", "user_id", "checkpoint", "tags", "status", "process_id"} <= replayed.keys()
    assert version == present["state_version"] == 8
