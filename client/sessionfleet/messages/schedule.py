"""schedule.*: scheduled reviews (rows H-01..H-03, H-06, H-11..H-14).

What describes a recurrence is answered with INVALID_SCHEDULE when it does not fit, everything else
with VALIDATION_FAILED, here and in the worker alike.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field

from sessionfleet.errors import InvalidSchedule, ScheduleNotFound, ValidationFailed, VersionConflict
from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Duty, Errors, Message, Name, Text, Write
from sessionfleet.messages.fields import AnyPriority
from sessionfleet.messages.schedule_accounts import Filter
from sessionfleet.messages.schedule_examples import invalid_schedule

ScheduleType = Literal["daily", "weekly", "biweekly", "monthly", "cron", "interval", "one_time"]
ExecutionStatus = Literal["queued", "running", "success", "failed", "skipped"]
Limit = Annotated[int, Field(ge=1, le=1000)]
Cursor = Annotated[str, Field(max_length=512)]
MaxRetries = Annotated[int, Field(ge=0, le=20)]
RetryDelay = Annotated[int, Field(ge=1, le=1440)]
Coalesce = Annotated[
    Literal["latest", "none", "earliest", "all"],
    Field(description="Which of several late slots run: one of them, none, or the latest 100 (H-07)."),
]
Overlap = Annotated[
    Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"],
    Field(
        description="Of a slot whose run before is not over: skipped; waiting for its end, one or up to 1,000 of "
        "them; run once the other was asked to end, or was ended; run beside it (H-09)."
    ),
]
MaxInstances = Annotated[
    int, Field(ge=1, le=100, description="Of allow_all: runs at a time; a slot beyond them is skipped as `limit`.")
]
MaxRuns = Annotated[
    int, Field(ge=1, le=1000000, description="Slots that run at all; any later one is skipped as `limit` (H-19).")
]
PauseAfter = Annotated[
    int, Field(ge=0, le=1000, description="Failed runs in a row that pause the schedule; 0: never (H-19).")
]

BUILT_IN = "review.owner_digest"

Handler = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.:-]{1,200}$",
        description="Task that does the review: `review.owner_digest`, or one of another service (H-14).",
    ),
]
HandlerQueue = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$", description="Queue of a handler of another service.")
]
HandlerTimeout = Annotated[
    int,
    Field(ge=1, le=86400, description="A handler silent for so many seconds is taken for lost; it is tried again."),
]


def _in_utc(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None
    return value


EndAt = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Window = Annotated[str, Field(min_length=1, max_length=100)]


_OWN_EXAMPLE = frozenset({"account_filter", "handler", "handler_queue"})
"""Fields beside the recurrence that are INVALID_SCHEDULE too."""


class Recurrence(Message):
    """When a schedule fires. Which fields belong to which type is checked by the worker (H-03)."""

    schedule_type: ScheduleType = Field(description="Each type has fields of its own; others are refused.")
    interval_minutes: Annotated[float, Field(gt=0, le=525600)] | None = Field(
        None, description="Of interval: its period in minutes; fractions must be whole seconds."
    )
    interval_seconds: Annotated[int, Field(ge=1, le=31536000)] | None = Field(
        None, description="Of interval: its period in seconds, instead of interval_minutes."
    )
    cron_expression: Name | None = Field(
        None, description="Of cron: five fields with names, ranges, steps, `L` and `#`; 0 and 7 are Sunday."
    )
    day_mode: Literal["and", "or"] | None = Field(
        None, description="Of cron, required when day of month and weekday are both restricted."
    )
    scheduled_time: Name | None = Field(
        None, description="Of one_time: ISO 8601; without an offset it is wall time of the zone."
    )
    hour: Annotated[int, Field(ge=0, le=23)] = Field(0, description="Of daily, weekly, biweekly and monthly.")
    minute: Annotated[int, Field(ge=0, le=59)] = Field(0, description="Of daily, weekly, biweekly and monthly.")
    weekday: Annotated[int, Field(ge=0, le=7)] | None = Field(
        None, description="Of weekly: 0 and 7 are Sunday; Monday when absent."
    )
    day: Annotated[int, Field(ge=1, le=31)] | None = Field(None, description="Of monthly: the 1st when absent.")
    last_business_day: bool = Field(
        False, description="Of monthly, instead of day: the last Monday to Friday no blackout covers as a whole."
    )
    month_end: Literal["clamp", "skip"] = Field(
        "clamp", description="Of monthly, for months without the day: their last day, or not at all."
    )
    anchor_date: date | None = Field(None, description="Of biweekly: its first day.")
    timezone: Name = Field("UTC", description="IANA zone of all local times; an interval is only shown in it.")
    dst_gap: Literal["shift", "next_valid", "skip"] = Field(
        "shift", description="Of a wall time the clock jumps over: 02:30 becomes 03:30, 03:00, or nothing (H-05)."
    )
    dst_overlap: Literal["first", "last", "both", "none"] = Field(
        "first", description="Of a wall time the clock shows twice (H-05)."
    )
    jitter_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        0, description="Each start is delayed by less than this, always by the same for a slot (H-17)."
    )
    windows: Annotated[list[Window], Field(max_length=100)] = Field(
        default_factory=list, description="Local times in which a run may start, such as `MON-FRI 08:00-18:00`."
    )
    window_policy: Literal["skip", "wait"] = Field(
        "skip", description="Of a slot outside all windows: skipped, or started at the next opening."
    )
    blackouts: Annotated[list[Window], Field(max_length=1000)] = Field(
        default_factory=list, description="Local days or times without runs: `2026-12-24/2027-01-01`, `05-01`."
    )
    end_at: EndAt | None = Field(None, description="No slot is later (H-19).")

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """As every message; a field of the recurrence that does not fit is :class:`InvalidSchedule`."""
        try:
            return super().parse(arguments)
        except ValidationFailed as error:
            for found in error.details["fields"]:
                field = found["field"].partition(".")[0]
                if field in Recurrence.model_fields or field in _OWN_EXAMPLE:
                    raise invalid_schedule(field, found["message"], arguments.get("schedule_type")) from None
            raise


class CreateSchedule(Recurrence, Write, name="schedule.create"):
    """Create a scheduled review; the first slot of an interval lies one period ahead."""

    answer: ClassVar[str] = "the schedule document"
    errors: ClassVar[Errors] = (InvalidSchedule,)

    owner_id: Name = Field(description="Whose sessions are reviewed.")
    account_filter: Filter | None = None
    priority: AnyPriority = "medium"
    enabled: bool = True
    max_retries: MaxRetries = Field(3, description="Tries after the first that failed.")
    retry_delay_minutes: RetryDelay = Field(5, description="Wait before the first retry; doubles each time.")
    coalesce: Coalesce = "latest"
    overlap: Overlap = "skip"
    max_instances: MaxInstances = 3
    max_runs: MaxRuns | None = None
    pause_after_failures: PauseAfter = 0
    handler: Handler = BUILT_IN
    handler_queue: HandlerQueue | None = None
    handler_timeout_seconds: HandlerTimeout = 300
    metadata: JsonObject = Field(default_factory=dict)


class ScheduleWrite(Write):
    """A write on one schedule."""

    errors: ClassVar[Errors] = (ScheduleNotFound, VersionConflict)

    schedule_id: Name


class UpdateSchedule(Recurrence, ScheduleWrite, name="schedule.update"):
    """Change a schedule; absent = unchanged. A new recurrence counts from now, slots due before are
    settled by the old one."""

    answer: ClassVar[str] = "the schedule document with `changed` and `updates`"
    errors: ClassVar[Errors] = (*ScheduleWrite.errors, InvalidSchedule)

    schedule_type: ScheduleType = "interval"
    account_filter: Filter | None = None
    priority: AnyPriority = "medium"
    enabled: bool = True
    max_retries: MaxRetries = 3
    retry_delay_minutes: RetryDelay = 5
    coalesce: Coalesce = "latest"
    overlap: Overlap = "skip"
    max_instances: MaxInstances = 3
    max_runs: MaxRuns | None = None
    pause_after_failures: PauseAfter = 0
    handler: Handler = BUILT_IN
    handler_queue: HandlerQueue | None = None
    handler_timeout_seconds: HandlerTimeout = 300
    metadata: JsonObject = Field(default_factory=dict, description="Replaces the metadata.")


class PauseSchedule(ScheduleWrite, name="schedule.pause"):
    """Stop firing; each slot of the pause becomes a `skipped` row with reason `paused`."""

    answer: ClassVar[str] = "the schedule document with `changed`"

    note: Text | None = Field(None, description="Why, shown as pause_note.")


class ResumeSchedule(ScheduleWrite, name="schedule.resume"):
    """Fire again from the next slot on; the pause moves no slot."""

    answer: ClassVar[str] = "the schedule document with `changed`"

    note: Text | None = Field(None, description="Kept in the audit.")


class DeleteSchedule(ScheduleWrite, name="schedule.delete"):
    """Delete a schedule; runs that wait become `skipped`, a run under way ends, its history stays."""

    answer: ClassVar[str] = "{deleted: true, schedule_id}"


class TriggerSchedule(ScheduleWrite, name="schedule.trigger"):
    """Run now, with high priority, paused or not; the slots of the schedule stay as they are (H-11)."""

    answer: ClassVar[str] = "the execution: {execution_id, schedule_id, kind, status, reason, nominal_utc, ...}"

    override_overlap: bool = Field(
        True, description="false: record it as skipped when a run of the schedule waits or is under way."
    )


class GetSchedule(Message, name="schedule.get"):
    """One schedule."""

    answer: ClassVar[str] = "the schedule document"
    errors: ClassVar[Errors] = (ScheduleNotFound,)

    schedule_id: Name


class ListSchedules(Message, name="schedule.list"):
    """Schedules, newest first, by keyset."""

    answer: ClassVar[str] = "{items: [schedule document], next_cursor}"

    owner_id: Name | None = None
    enabled_only: bool = False
    limit: Limit = 100
    cursor: Cursor | None = None


class ScheduleHistory(Message, name="schedule.history"):
    """Every slot of a schedule and what became of it, latest first, by keyset; also of a deleted one."""

    answer: ClassVar[str] = (
        "{items: [{execution_id, schedule_id, kind, nominal_utc, status, reason, attempt, queued_at, started_at, "
        "ended_at, session_id, error_message, stop, accounts_processed, duration_seconds, result, attempts}], "
        "next_cursor}"
    )
    errors: ClassVar[Errors] = (ScheduleNotFound,)

    schedule_id: Name
    status: ExecutionStatus | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


class DispatchDue(Duty, name="schedule.dispatch_due"):
    """Settle every slot that is due - queued to run, or skipped with its reason - and send the runs (H-06)."""

    answer: ClassVar[str] = "{queued, skipped, stopped, lost, published: counts}"


class RunReview(Duty, name="schedule.run_review"):
    """Run a queued execution, or the one of its owner that comes before it (H-14, H-16).

    A copy of the message starts nothing twice. `status` is running while a handler has it."""

    queue: ClassVar[str] = "reviews"
    answer: ClassVar[str] = "{execution_id, ran, status, session_id}"

    execution_id: Name
