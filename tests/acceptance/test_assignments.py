"""Accounts of owners and the runs over them (AT-H9, AT-H12; H-14, H-15)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from sessionfleet.errors import InvalidSchedule, ValidationFailed
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ended, rewind

RISKS = {"a10": 10, "b70": 70, "c50": None, "d90": 90, "e70": 70, "f50": 50}
IN_ORDER = ["d90", "b70", "e70", "c50", "f50", "a10"]


@pytest.fixture
def owner() -> str:
    return f"owner-{uuid4().hex[:8]}"


def assign(fleet: RunningFleet, owner: str, risks: dict[str, float | None], **more: Any) -> dict[str, Any]:
    accounts = [{"account_id": name, "risk_score": risk} for name, risk in risks.items()]
    answer: dict[str, Any] = fleet.call("schedule.assign", owner_id=owner, accounts=accounts, **more)
    return answer


def listed(fleet: RunningFleet, owner: str) -> list[tuple[str, float | None, str]]:
    items = fleet.call("schedule.assignments", owner_id=owner)["items"]
    return [(one["account_id"], one["risk_score"], one["level"]) for one in items]


def test_accounts_stand_by_risk_and_equal_ones_as_assigned(fleet: RunningFleet, owner: str) -> None:
    """AT-H9: risks 90, 70, 50, 10 in this order; unknown counts as 50."""
    counts = assign(fleet, owner, RISKS)
    assert (counts["added"], counts["total"], counts["changed"]) == (6, 6, True)
    assert listed(fleet, owner) == [
        ("d90", 90, "critical"),
        ("b70", 70, "high"),
        ("e70", 70, "high"),
        ("c50", None, "medium"),
        ("f50", 50, "medium"),
        ("a10", 10, "low"),
    ]
    bounds = {"x81": 80.5, "x80": 80, "x60": 60, "x59": 59.9, "x40": 40, "x39": 39.9}
    assign(fleet, owner, bounds, remove=list(RISKS))
    assert [level for _, _, level in listed(fleet, owner)] == ["critical", "high", "high", "medium", "medium", "low"]


def test_what_is_assigned_already_changes_nothing_and_keeps_its_place(fleet: RunningFleet, owner: str) -> None:
    assign(fleet, owner, RISKS)
    again = assign(fleet, owner, RISKS)
    assert (again["changed"], again["added"], again["updated"], again["total"]) == (False, 0, 0, 6)
    moved = assign(fleet, owner, {"b70": 71, "b71": 71}, remove=["a10", "nobody"])
    assert (moved["added"], moved["updated"], moved["removed"], moved["total"]) == (1, 1, 1, 6)
    assign(fleet, owner, {"b70": 70})
    assert [name for name, _, _ in listed(fleet, owner)] == ["d90", "b71", "b70", "e70", "c50", "f50"]


def test_pages_name_every_account_once(fleet: RunningFleet, owner: str) -> None:
    assign(fleet, owner, {f"n{n}": n % 7 * 10 for n in range(25)})
    seen: list[str] = []
    cursor = None
    while not seen or cursor is not None:
        answer = fleet.call("schedule.assignments", owner_id=owner, limit=4, cursor=cursor)
        seen += [one["account_id"] for one in answer["items"]]
        cursor = answer["next_cursor"]
    assert seen == [name for name, _, _ in listed(fleet, owner)]
    assert (len(seen), answer["total"]) == (25, 25)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"accounts": [{"account_id": "a", "risk_score": 101}]},
        {"accounts": [{"account_id": "a", "risk_score": -1}]},
        {"accounts": [{"account_id": "a"}, {"account_id": "a", "risk_score": 1}]},
        {"accounts": [{"account_id": "a"}], "remove": ["a"]},
    ],
)
def test_a_bad_assignment_stores_nothing(fleet: RunningFleet, owner: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        fleet.call("schedule.assign", owner_id=owner, **arguments)
    assert listed(fleet, owner) == []


@pytest.mark.parametrize(
    ("account_filter", "over"),
    [
        (None, IN_ORDER),
        ({"risk": {"min": 60}}, ["d90", "b70", "e70"]),
        ({"risk": {"min": 50, "max": 70}, "limit": 3}, ["b70", "e70", "c50"]),
        ({"levels": ["low", "critical"]}, ["d90", "a10"]),
        ({"accounts": ["f50", "b70", "nobody"], "exclude": ["b70"]}, ["f50"]),
    ],
)
def test_a_run_is_over_the_owner_s_accounts_that_pass_the_filter(
    fleet: RunningFleet, owner: str, account_filter: dict[str, Any] | None, over: list[str]
) -> None:
    """AT-H12: its session names them, highest risk first, and the nominal time."""
    assign(fleet, owner, RISKS)
    schedule = create(fleet, owner_id=owner, account_filter=account_filter)
    rewind(fleet, schedule, 1)
    dispatch(fleet)
    slot = ended(fleet, schedule)
    session = fleet.call("session.get", session_id=slot["session_id"])
    assert (session["session_type"], session["account_ids"]) == ("scheduled", over)
    assert session["metadata"]["nominal_utc"] == slot["nominal_utc"]
    assert (slot["accounts_processed"], slot["result"]["accounts"]) == (len(over), len(over))
    assert [one["account_id"] for one in slot["result"]["by_account"]] == over


def test_assignments_are_read_anew_by_each_run(fleet: RunningFleet, owner: str) -> None:
    schedule = create(fleet, owner_id=owner)
    assign(fleet, owner, {"old": 10})
    fleet.call("schedule.trigger", schedule_id=schedule["schedule_id"])
    ended(fleet, schedule)
    assign(fleet, owner, {"new": 99}, remove=["old"])
    again = fleet.call("schedule.trigger", schedule_id=schedule["schedule_id"])
    slot = ended(fleet, schedule)
    session = fleet.call("session.get", session_id=slot["session_id"])
    assert slot["execution_id"] == again["execution_id"]
    assert (session["session_type"], session["account_ids"]) == ("on_demand", ["new"])


@pytest.mark.parametrize(
    "account_filter",
    [
        {"min_risk": 60},
        {"risk": {"min": 101}},
        {"risk": {"min": 60, "max": 50}},
        {"levels": ["urgent"]},
        {"levels": []},
        {"accounts": "a"},
        {"limit": 0},
    ],
)
def test_a_filter_that_cannot_be_read_is_an_invalid_schedule(fleet: RunningFleet, account_filter: Any) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        create(fleet, account_filter=account_filter)
    assert caught.value.details["field"] == "account_filter"
    assert fleet.call("schedule.create", **caught.value.details["example"])["account_filter"] is not None
    schedule = create(fleet)
    with pytest.raises(InvalidSchedule):
        fleet.call("schedule.update", schedule_id=schedule["schedule_id"], account_filter=account_filter)
