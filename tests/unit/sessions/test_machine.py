"""The state machine against the table of A-06, copied here by hand (A-06, A-07, A-09, A-11)."""

from __future__ import annotations

import pytest

from sessionfleet.errors import InvalidTransition
from sessionfleet.words import LIVE, RECOVERABLE, STATUSES, TERMINAL
from sessions.machine import END_REASONS, MOVES, check_move, event_name

ENDS_OF_THE_WORKING = {"interrupted", "crashed", "completed", "terminated", "failed", "expired"}

TABLE = {
    "initializing": {"active", "interrupted", "crashed", "terminated", "failed", "expired"},
    "active": {"idle", "waiting_input", "paused"} | ENDS_OF_THE_WORKING,
    "idle": {"active", "waiting_input", "paused"} | ENDS_OF_THE_WORKING,
    "waiting_input": {"active", "idle", "paused"} | ENDS_OF_THE_WORKING,
    "paused": {"active"} | ENDS_OF_THE_WORKING,
    "interrupted": {"active", "terminated", "failed", "expired"},
    "crashed": {"active", "terminated", "failed", "expired"},
    "completed": set(),
    "terminated": set(),
    "failed": set(),
    "expired": set(),
}


def test_the_statuses_are_the_eleven_in_three_sets() -> None:
    assert set(STATUSES) == set(TABLE)
    assert len(STATUSES) == 11
    assert set(STATUSES) == LIVE | RECOVERABLE | TERMINAL
    assert len(LIVE) + len(RECOVERABLE) + len(TERMINAL) == 11


@pytest.mark.parametrize("current", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
def test_exactly_the_moves_of_the_table_are_legal(current: str, to: str) -> None:
    if to in TABLE[current]:
        check_move(current, to)
    else:
        with pytest.raises(InvalidTransition) as refused:
            check_move(current, to)
        assert refused.value.details == {"from": current, "to": to, "allowed": sorted(TABLE[current])}
        assert refused.value.http_status == 400


def test_a_verb_can_mean_less_than_its_move() -> None:
    with pytest.raises(InvalidTransition):
        check_move("idle", "active", only_from=frozenset({"initializing"}))


def test_a_verb_that_means_less_than_a_move_says_so() -> None:
    """What the table allows is not told as refused by it."""
    with pytest.raises(InvalidTransition) as refused:
        check_move("initializing", "active", only_from=frozenset({"paused", "idle"}))
    assert refused.value.message == (
        "This operation makes a session active that is idle or paused; this one is initializing."
    )
    assert refused.value.details["to"] in refused.value.details["allowed"]


def test_terminal_statuses_have_no_exit_and_a_reason_each() -> None:
    assert {status for status in STATUSES if not MOVES[status]} == TERMINAL
    assert END_REASONS == {"completed": "completed", "terminated": "user", "failed": "error", "expired": "timeout"}


@pytest.mark.parametrize("to", [status for status in STATUSES if status not in ("active", "initializing")])
def test_each_status_has_its_own_event(to: str) -> None:
    assert event_name("active", to, started=True) == f"session.{to}"


@pytest.mark.parametrize(
    ("current", "started", "name"),
    [
        ("initializing", False, "session.started"),
        ("idle", True, "session.resumed"),
        ("paused", True, "session.resumed"),
        ("waiting_input", True, "session.resumed"),
        ("paused", False, "session.started"),
        ("crashed", True, "session.recovered"),
        ("interrupted", True, "session.recovered"),
        ("crashed", False, "session.recovered"),
    ],
)
def test_active_is_announced_by_where_it_comes_from(current: str, started: bool, name: str) -> None:
    assert event_name(current, "active", started) == name
