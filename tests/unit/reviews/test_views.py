"""Preview, simulation, explanation and the choice of a backfill as pure functions (H-04, H-18, AT-H11)."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args, get_type_hints

import pytest

from reviews import explain
from reviews.backfill import choose
from reviews.ledger import BUFFER
from reviews.preview import MAX_SLOTS, next_run, preview, span
from reviews.rule import Rule
from reviews.simulate import fates, simulate
from reviews.subject import Subject
from sessionfleet.errors import InvalidSchedule, ValidationFailed
from sessionfleet.messages import CreateSchedule
from sessionfleet.messages.schedule_views import BACKFILL_SLOTS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

RULES: dict[str, dict[str, Any]] = {
    "daily": {"hour": 2, "minute": 30},
    "weekly": {"weekday": 0, "hour": 2},
    "biweekly": {"anchor_date": date(2026, 1, 5), "hour": 9},
    "monthly": {"day": 31, "hour": 9, "blackouts": ("12-24/12-31",)},
    "cron": {"cron_expression": "*/30 2-9 * * MON-SAT", "windows": ("MON-FRI 02:00-09:00",), "jitter_seconds": 90},
    "interval": {"interval_minutes": 95, "anchor": NOW, "jitter_seconds": 600},
    "one_time": {"scheduled_time": "2026-10-25T02:30"},
}
"""One rule of each type."""

OVERLAPS = get_args(get_type_hints(CreateSchedule)["overlap"])


def subject(schedule_type: str = "cron", **values: Any) -> Subject:
    policies = {name: values.pop(name) for name in list(values) if name in Subject.__dataclass_fields__}
    given = {"timezone": "Europe/Berlin", **(values or RULES[schedule_type])}
    return Subject(rule=Rule(schedule_type=schedule_type, **given), schedule_id="schedule_1", **policies)


def every_minute(**policies: Any) -> Subject:
    return subject("interval", interval_minutes=1, anchor=NOW, **policies)


@pytest.mark.parametrize("schedule_type", RULES)
def test_a_year_s_preview_is_what_the_ledger_would_see(schedule_type: str) -> None:
    """AT-H11, H-09: with runs that are over at once, the overlap policy makes no difference."""
    begin, end = span(subject(schedule_type), 2026, None, None, NOW)
    seen = preview(subject(schedule_type), begin, end, MAX_SLOTS)
    items = [{**slot, "note": None} for slot in seen["items"]]
    assert seen["total"] > 0
    for overlap in OVERLAPS:
        one = subject(schedule_type, overlap=overlap)
        found = simulate(one, fates(one, begin, end), begin, end, "all", MAX_SLOTS)
        assert [{**slot, "note": None} for slot in found["items"]] == items
        assert (seen["total"], seen["runs"], seen["skipped"]) == (found["total"], found["runs"], found["skipped"])
        for which in ("runs", "skipped"):
            assert sum(day[which] for day in seen["days"].values()) == sum(m[which] for m in found["months"].values())


def test_pages_of_a_preview_make_the_whole() -> None:
    one = subject("cron")
    begin, end = span(one, 2026, None, None, NOW)
    whole, joined, at = preview(one, begin, end, 10000)["items"], [], begin
    while True:
        page = preview(one, at, end, 700)
        joined += page["items"]
        if page["next_start"] is None:
            break
        at = datetime.fromisoformat(page["next_start"])
    assert [slot["nominal_utc"] for slot in joined] == [slot["nominal_utc"] for slot in whole]


def test_a_year_of_minutes_is_simulated_in_seconds() -> None:
    one = subject("cron", cron_expression="* * * * *")
    begin, end = span(one, 2026, None, None, NOW)
    started = time.process_time()
    down = [(NOW + day * timedelta(days=7), NOW + day * timedelta(days=7) + timedelta(hours=1)) for day in range(52)]
    found = simulate(one, fates(one, begin, end, down), begin, end, "skipped", 0)
    assert found["total"] == 525600
    assert found["runs"] == 525600 - 52 * 60
    assert time.process_time() - started < 10


def test_clock_changes_are_noted() -> None:
    one = subject("daily")
    spring = next_run(one, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)["items"]
    assert spring[0]["local"] == "2026-03-29T03:30:00+02:00"
    assert "jumps over" in spring[0]["note"]
    autumn = next_run(one, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)["items"]
    assert autumn[0]["note"] == "02:30 comes twice that day; this is the first one"
    assert autumn[1]["note"] == "the clock has changed since the slot before, to UTC+01:00"
    last = subject("daily", hour=2, minute=30, dst_overlap="last")
    assert "second" in next_run(last, datetime(2026, 10, 24, 12, tzinfo=UTC), 1)["items"][0]["note"]
    assert next_run(subject("one_time"), NOW, 5)["items"][0]["local"] == "2026-10-25T02:30:00+02:00"


def test_a_range_is_neither_empty_nor_longer_than_a_year_nor_denser_than_minutes() -> None:
    one = subject("interval", interval_seconds=1, anchor=NOW)
    for end in (NOW, NOW + timedelta(days=400)):
        with pytest.raises(ValidationFailed, match="end"):
            span(one, None, NOW, end, NOW)
    with pytest.raises(ValidationFailed, match="600,000 slots"):
        preview(one, NOW, NOW + timedelta(days=30), 0)
    begin, end = span(subject("daily"), 2024, None, None, NOW)
    assert (begin.isoformat(), end - begin) == ("2023-12-31T23:00:00+00:00", timedelta(days=366))


def reasons(one: Subject, minutes: int, *down: tuple[int, int], run_seconds: float = 0) -> list[str]:
    spans = [(NOW + first * MINUTE, NOW + last * MINUTE) for first, last in down]
    return [slot.reason or "runs" for slot in fates(one, NOW, NOW + minutes * MINUTE, spans, run_seconds)]


def test_after_a_downtime_the_latest_runs_and_the_others_say_why() -> None:
    assert reasons(every_minute(), 13, (1, 10)) == ["runs", *["misfire"] * 4, *["coalesced"] * 5, *["runs"] * 3]
    assert reasons(every_minute(), 8, (1, 3), (2, 6)) == ["runs", *["coalesced"] * 5, "runs", "runs"]
    assert reasons(every_minute(coalesce="earliest"), 6, (1, 4)) == ["runs", "runs", *["coalesced"] * 3, "runs"]
    assert reasons(every_minute(coalesce="all"), 6, (1, 4)) == ["runs", "runs", *["overlap"] * 3, "runs"]
    side_by_side = every_minute(coalesce="all", overlap="allow_all", max_instances=3)
    assert reasons(side_by_side, 6, (1, 4)) == ["runs", *["runs"] * 3, "limit", "runs"]
    assert reasons(every_minute(coalesce="none"), 6, (1, 4)) == ["runs", *["misfire"] * 3, "runs", "runs"]


def test_a_late_run_starts_at_the_end_of_its_downtime() -> None:
    found = list(fates(every_minute(), NOW, NOW + 4 * MINUTE, [(NOW + MINUTE, NOW + 2.5 * MINUTE)]))
    assert found[2].start == NOW + 2.5 * MINUTE
    assert found[3].start == found[3].nominal


def test_overlap_pause_and_limit() -> None:
    assert reasons(every_minute(), 5, run_seconds=90) == ["runs", "overlap", "runs", "overlap", "runs"]
    assert reasons(every_minute(overlap="allow_all"), 3, run_seconds=90) == ["runs"] * 3
    assert reasons(every_minute(overlap="allow_all", max_instances=1), 3, run_seconds=90) == ["runs", "limit", "runs"]
    assert reasons(every_minute(enabled=False), 2) == ["paused"] * 2
    assert reasons(every_minute(max_runs=5, run_count=3), 4) == ["runs", "runs", "limit", "limit"]


@pytest.mark.parametrize(
    ("policy", "starts"),
    [
        ({"overlap": "skip"}, [0, "overlap", "overlap", 3, "overlap", "overlap", 6, "overlap"]),
        ({"overlap": "buffer_one"}, [0, 2.5, "overlap", 5, "overlap", 7.5, "overlap", "overlap"]),
        ({"overlap": "buffer_all"}, [0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5]),
        ({"overlap": "cancel_other"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"overlap": "terminate_other"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"overlap": "allow_all"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"overlap": "allow_all", "max_instances": 2}, [0, 1, "limit", 3, 4, "limit", 6, 7]),
        ({"overlap": "buffer_all", "max_runs": 3}, [0, 2.5, 5, *["limit"] * 5]),
    ],
)
def test_runs_longer_than_their_period_under_each_overlap_policy(
    policy: dict[str, Any], starts: list[float | str]
) -> None:
    """H-09, H-18: runs of two and a half minutes, a slot each minute; when each starts, or why it does not."""
    found = fates(every_minute(**policy), NOW, NOW + 8 * MINUTE, run_seconds=150)
    assert [slot.reason or (slot.start - NOW) / MINUTE for slot in found] == starts  # type: ignore[operator]


@pytest.mark.parametrize(
    ("overlap", "after"),
    [
        ("skip", [4, "overlap", "overlap", "overlap", "overlap", "overlap", 7]),
        ("buffer_one", [4, 6.5, "overlap", "overlap", "overlap", "overlap", 9]),
        ("buffer_all", [4, 6.5, 9, 11.5, 14, 16.5, 19]),
        ("cancel_other", ["overlap", "overlap", "overlap", 4, 5, 6, 7]),
        ("terminate_other", ["overlap", "overlap", "overlap", 4, 5, 6, 7]),
        ("allow_all", [4, 4, 4, 4, "limit", "limit", 7]),
    ],
)
def test_slots_of_a_downtime_caught_up_under_each_overlap_policy(overlap: str, after: list[float | str]) -> None:
    """H-07, H-09, H-18: four slots are settled together when the downtime ends, and meet each other."""
    one = every_minute(overlap=overlap, coalesce="all", max_instances=4)
    down = [(NOW + MINUTE, NOW + 4 * MINUTE)]
    first, *rest = fates(one, NOW, NOW + 8 * MINUTE, down, 150)
    assert first.start == NOW
    assert [slot.reason or (slot.start - NOW) / MINUTE for slot in rest] == after  # type: ignore[operator]


def test_a_full_buffer_drops_what_comes_next() -> None:
    """H-09, H-18: with runs that never catch up, 1,000 wait beside the one under way."""
    found = Counter(reasons(every_minute(overlap="buffer_all"), 1200, run_seconds=86_400))
    assert found == {"runs": BUFFER + 1, "limit": 1200 - BUFFER - 1}


def test_a_definition_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidSchedule, match="cron_expression"):
        Subject.of_definition({"schedule_type": "cron", "cron_expression": "61 * * * *"}, NOW, 300)
    assert Subject.of_definition({"schedule_type": "interval", "interval_minutes": 5}, NOW, 77).misfire_grace == 77


def row(nominal: datetime, status: str, reason: str | None = None, late: float = 0, **values: Any) -> dict[str, Any]:
    known = dict.fromkeys(("session_id", "error_message", "duration_seconds", "started_at", "not_before"))
    settled = nominal + timedelta(seconds=late)
    return {
        **known,
        "execution_id": "exec_1",
        "kind": "scheduled",
        "nominal_utc": nominal,
        "status": status,
        "reason": reason,
        "attempt": 1,
        "queued_at": settled,
        "started_at": settled,
        **values,
    }


def facts(one: Subject | None = None, **values: Any) -> explain.Facts:
    schedule = {"created_at": NOW, "deleted_at": None, "next_run": NOW + 60 * MINUTE}
    given: dict[str, Any] = {"subject": one or every_minute(), "schedule": schedule, "now": NOW + 60 * MINUTE}
    return explain.Facts(**{**given, **values})


PAUSE = {"timestamp": NOW, "actor": "ada", "metadata": {"note": "lunch"}}
BUSY = {"execution_id": "ondemand_7", "kind": "on_demand"}


@pytest.mark.parametrize(
    ("values", "known", "said"),
    [
        ({"status": "success", "duration_seconds": 1.5}, {}, "on time, took 1.5 s and succeeded"),
        ({"status": "success", "late": 42}, {}, "42 s late and succeeded"),
        ({"status": "failed", "error_message": "boom", "attempt": 4}, {}, "failed at attempt 4: boom"),
        ({"status": "running"}, {}, "is under way"),
        ({"status": "queued", "attempt": 0}, {}, "waits for a worker"),
        ({"status": "queued", "error_message": "boom", "not_before": NOW}, {}, "is tried again after"),
        ({"status": "skipped", "reason": "misfire", "late": 412}, {}, "found 412 s late and misfire_grace is 300 s"),
        ({"status": "skipped", "reason": "misfire", "late": 60}, {}, "found 60 s late and coalesce is none"),
        ({"status": "skipped", "reason": "coalesced", "late": 60}, {}, "another slot ran for all"),
        ({"status": "skipped", "reason": "paused"}, {}, "the schedule was paused"),
        ({"status": "skipped", "reason": "paused"}, {"pause": PAUSE}, "since 2026-01-01 00:00:00 UTC by ada: lunch"),
        ({"status": "skipped", "reason": "overlap"}, {"other": BUSY}, "overlap with execution ondemand_7"),
        ({"status": "skipped", "reason": "overlap"}, {}, "overlap with a run"),
        ({"status": "skipped", "reason": "blackout"}, {}, "it lies in a blackout"),
        ({"status": "skipped", "reason": "full moon"}, {}, "skipped: full moon"),
    ],
)
def test_a_row_is_explained(values: dict[str, Any], known: dict[str, Any], said: str) -> None:
    verdict, sentence = explain.slot_of_row(facts(**known), row(NOW, **values))
    assert said in sentence
    assert sentence.endswith(".")
    assert verdict == {"success": "ran"}.get(values["status"], values["status"])


def test_slots_without_a_row_are_explained() -> None:
    def told(minutes: int, one: Subject | None = None, **schedule: Any) -> tuple[str, str]:
        known = facts(one)
        known = facts(one, schedule={**known.schedule, **schedule}, now=NOW + 61.5 * MINUTE)
        return explain.slot_without_row(known, NOW + minutes * MINUTE)

    assert told(-5)[0] == "before_creation"
    assert told(5)[0] == "unrecorded"
    assert "deleted" in told(90, deleted_at=NOW, next_run=None)[1]
    assert told(60)[0] == "unsettled"
    assert "2026-01-01 02:00:00 (Europe/Berlin, 01:00:00Z) has been due for 90 s" in told(60)[1]
    assert told(90)[0] == "future"
    assert "would be skipped: the schedule was paused" in told(90, every_minute(enabled=False))[1]
    closed = subject("interval", interval_minutes=1, anchor=NOW, windows=("08:00-09:00",))
    assert "will be skipped: window" in told(90, closed)[1]


def test_an_instant_that_is_no_slot_has_neighbours() -> None:
    rule = subject("weekly").rule
    verdict, sentence = explain.no_slot(rule, datetime(2026, 1, 7, 12, tzinfo=UTC))
    assert verdict == "not_a_slot"
    assert "before it 2026-01-04 02:00:00 (Europe/Berlin, 01:00:00Z)" in sentence
    assert "after it 2026-01-11 02:00:00" in sentence
    assert explain.previous(subject("one_time").rule, NOW) is None


def test_a_slot_is_found_within_its_minute_or_second() -> None:
    rule = subject("interval", interval_minutes=7, anchor=NOW + timedelta(seconds=12.5)).rule
    slot = NOW + timedelta(seconds=12.5)
    assert [explain.find(rule, NOW), explain.find(rule, slot.replace(microsecond=0))] == [slot, slot]
    assert explain.find(rule, slot) == slot
    assert explain.find(rule, NOW + timedelta(seconds=11)) is None


def chosen(taken: dict[datetime, set[str]], minutes: int = 6, **values: Any) -> list[str | None]:
    end = NOW + minutes * MINUTE
    found = choose(every_minute(), NOW, end, lambda: taken, **{"next_run": NOW + 5 * MINUTE, **values})
    return [one.reason for one in found]


def test_a_backfill_leaves_alone_what_is_there_and_what_is_the_dispatcher_s() -> None:
    taken = {NOW: {"scheduled"}, NOW + MINUTE: {"skipped"}, NOW + 2 * MINUTE: {"skipped", "backfill"}}
    assert chosen(taken) == ["scheduled", "skipped", "backfill", None, None, "unsettled"]
    assert chosen(taken, include_skipped=True) == ["scheduled", None, "backfill", None, None, "unsettled"]
    assert chosen({}, next_run=None) == [None] * 6


def test_a_backfill_has_an_end() -> None:
    assert len(chosen({}, BACKFILL_SLOTS)) == BACKFILL_SLOTS
    with pytest.raises(ValidationFailed, match="more than 1,000 slots; end it by 2026-01-01T16:40:00"):
        chosen({}, BACKFILL_SLOTS + 1)


def test_a_backfill_of_too_many_slots_does_not_read_the_ledger() -> None:
    def taken() -> dict[datetime, set[str]]:
        raise AssertionError("read")

    with pytest.raises(ValidationFailed, match="more than 1,000 slots"):
        choose(every_minute(), NOW - timedelta(days=3650), NOW, taken, next_run=None)
