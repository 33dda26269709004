"""Stored patches, replayed from creation, give the present document (B-14), whatever the writes were."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet import messages as m
from sessionfleet.errors import FleetError
from sessions import content, creation, lifecycle
from sessions.change import Change, Operation
from sessions.document import document
from sessions.record import Record
from sessions.settle import settle
from tests.support.records import NOW, context

SID = "s"

names = st.sampled_from(["a", "b", "c"])
some_json = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("xy~/", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
)
documents = st.dictionaries(names, some_json, max_size=3)
sets = st.lists(names, max_size=3) | st.fixed_dictionaries(
    {}, optional={"add": st.lists(names, max_size=2), "remove": st.lists(names, max_size=2)}
)
scalars = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.none() | names,
        "checkpoint": st.none() | documents,
        "work_state": st.none() | names,
        "process_id": st.none() | st.integers(1, 3),
        "priority": st.sampled_from(["low", "high"]),
        "session_type": st.sampled_from(["task", "batch"]),
        "timeout_seconds": st.none() | st.sampled_from([60, 1800, 7200]),
        "max_events": st.none() | st.sampled_from([10, 1000]),
        "tags": sets,
        "account_ids": sets,
    },
)
bodies = st.fixed_dictionaries({}, optional=dict.fromkeys(("context", "metadata", "runtime_metadata"), documents))
lists = st.dictionaries(names, st.lists(some_json, max_size=2), max_size=2)


def updates() -> st.SearchStrategy[m.Update]:
    merged = st.builds(
        lambda mode, scalar, body, status: m.Update(session_id=SID, mode=mode, **scalar, **body, **status),
        st.sampled_from(["merge", "shallow"]),
        scalars,
        bodies,
        st.just({}) | st.sampled_from([{"status": "paused"}, {"status": "active", "status_reason": "why"}]),
    )
    replaced = st.builds(lambda body: m.Update(session_id=SID, mode="replace", expected_version=0, **body), bodies)
    appended = st.builds(lambda body: m.Update(session_id=SID, mode="append", context=body), lists)
    cleared = st.sampled_from([m.Update(session_id=SID, context=None), m.Update(session_id=SID, metadata=None)])
    return merged | replaced | appended | cleared


contexts = st.builds(
    lambda more: m.UpdateContext(session_id=SID, **more),
    st.fixed_dictionaries(
        {},
        optional={
            "context": documents,
            "current_batch": st.none() | st.integers(0, 3),
            "processed_accounts": sets,
            "account_ids": sets,
            "free": some_json,
        },
    ),
)
moves = st.sampled_from(
    [
        m.Start(session_id=SID, process_id=7),
        m.Pause(session_id=SID, reason="lunch"),
        m.Resume(session_id=SID),
        m.Interrupt(session_id=SID),
        m.Recover(session_id=SID),
        m.Crash(session_id=SID, error_message="oom"),
        m.SetStatus(session_id=SID, status="suspended", process_id=8, runtime_metadata={"pod_name": "p"}),
        m.Complete(session_id=SID, error="at last", metrics={"n": 1}),
    ]
)
VERBS = {
    m.Update: content.update,
    m.UpdateContext: content.update_context,
    m.Start: lifecycle.start,
    m.Pause: lifecycle.pause,
    m.Resume: lifecycle.resume,
    m.Interrupt: lifecycle.interrupt,
    m.Recover: lifecycle.recover,
    m.Crash: lifecycle.crash,
    m.SetStatus: lifecycle.set_status,
    m.Complete: lifecycle.complete,
}


class Life:
    """A session and its events, settled as the unit of work does it."""

    def __init__(self, command: m.Create) -> None:
        self.events: list[dict[str, Any]] = []
        self.record: Record | None = None
        self.changes = 0
        self.run(command, lambda session, message, ctx: creation.create(None, message, ctx))

    def run(self, command: Any, verb: Any) -> None:
        ctx = context(NOW + timedelta(seconds=self.changes))
        self.changes += 1
        if getattr(command, "mode", None) == "replace":
            assert self.record is not None
            command = command.model_copy(update={"expected_version": self.record.state_version})
        try:
            change: Change = verb(self.record, command, ctx)
        except FleetError:
            return
        settled = settle(self.record, change, Operation("t", command, verb, "task", SID, "key"), ctx)
        self.record = settled.record
        self.events += settled.events


@given(
    st.builds(
        lambda scalar, body, status: m.Create(**scalar, **body, **status),
        st.fixed_dictionaries({}, optional={"user_id": names, "priority": st.just("low"), "tags": st.lists(names)}),
        bodies,
        st.sampled_from([{}, {"status": "active"}]),
    ),
    st.lists(updates() | contexts | moves, max_size=8),
)
def test_patches_replayed_from_nothing_give_the_present_document(command: m.Create, writes: list[Any]) -> None:
    life = Life(command)
    for write in writes:
        life.run(write, VERBS[type(write)])

    replayed: dict[str, Any] = {}
    version = 0
    for event in life.events:
        if "patch" not in event["metadata"]:
            continue
        assert event["metadata"]["version_from"] == version
        version = event["metadata"]["version_to"]
        replayed = jsonpatch.apply_patch(replayed, event["metadata"]["patch"])

    assert life.record is not None
    present = document(life.record)
    assert version == life.record.state_version
    assert replayed == {name: present[name] for name in replayed}
    written = {name for name in content.SCALARS + content.SETS if present[name] != document(base())[name]}
    assert replayed.keys() >= {"status", "context", "metadata", "runtime_metadata"} | written


def base() -> Record:
    """A session that was created with nothing given."""
    life = Life(m.Create())
    assert life.record is not None
    return dataclasses.replace(life.record)
