"""schedule.next_run, preview, simulate, explain, backfill: what a schedule will do, would do and did (H-04, H-18).

A time without an offset is wall time in the schedule's zone. Times lie between the years 1900 and 9000.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from sessionfleet.errors import InvalidSchedule, ScheduleNotFound, ValidationFailed
from sessionfleet.messages.base import Errors, Message, Name
from sessionfleet.messages.schedule import (
    Coalesce,
    Limit,
    MaxInstances,
    MaxRuns,
    Overlap,
    Recurrence,
    ScheduleWrite,
)
from sessionfleet.messages.schedule_examples import invalid_schedule

Items = Annotated[int, Field(ge=0, le=10000)]

EARLIEST, LATEST = 1900, 9000
"""Years: what is computed from an instant stays far from both ends of the calendar."""


def _within_reach(value: datetime) -> datetime:
    if not EARLIEST <= value.year <= LATEST:
        raise ValueError(f"must lie between the years {EARLIEST} and {LATEST}")
    return value


When = Annotated[datetime, AfterValidator(_within_reach)]
Anchor = Annotated[AwareDatetime, AfterValidator(_within_reach)]

START = "First instant of the range."
END = "Instant at which the range is over; it is not part of it."


class Definition(Recurrence):
    """A schedule that need not be stored."""

    anchor: Anchor | None = Field(None, description="Of interval: any of its slots; default now.")
    enabled: bool = True
    coalesce: Coalesce = "latest"
    overlap: Overlap = "skip"
    max_instances: MaxInstances = 3
    max_runs: MaxRuns | None = None
    misfire_grace: Annotated[int, Field(ge=0, le=86400)] = Field(
        300, description="Seconds a slot may be late and run."
    )


class Viewed(Message):
    """A read on a stored schedule or on a definition."""

    errors: ClassVar[Errors] = (ScheduleNotFound, InvalidSchedule)

    schedule_id: Name | None = None
    definition: Definition | None = Field(
        None, description="Instead of schedule_id: when it fires, as schedule.create takes it."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.schedule_id is None) == (self.definition is None):
            raise ValueError("schedule_id: give either schedule_id or definition")
        return self

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """As every message; a field of the definition that does not fit is :class:`InvalidSchedule`."""
        try:
            return super().parse(arguments)
        except ValidationFailed as error:
            for found in error.details["fields"]:
                first, _, field = found["field"].partition(".")
                if first == "definition" and field:
                    raise invalid_schedule(field.partition(".")[0], found["message"]) from None
            raise


class NextRun(Viewed, name="schedule.next_run"):
    """The next slots, in UTC and local, with what clock changes do to them."""

    answer: ClassVar[str] = (
        "{schedule_id, schedule_type, timezone, enabled, after, "
        "items: [{nominal_utc, local, start_utc, reason, note}]}"
    )

    limit: Limit = 10
    after: When | None = Field(None, description="Slots later than this; default now.")


class Range(Viewed):
    """A read on a range of at most 366 days and 600,000 slots."""

    year: Annotated[int, Field(ge=1970, le=2200)] | None = Field(
        None, description="A year of the schedule's zone, instead of start and end."
    )
    start: When | None = Field(None, description=START + " Default now.")
    end: When | None = Field(None, description=END + " Default 366 days after start.")

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        if self.year is not None and (self.start or self.end):
            raise ValueError("year: give either a year or a range")
        return self


class PreviewSchedule(Range, name="schedule.preview"):
    """The slots of a range: nominal, local, when they start after jitter and windows, and why one would not.

    `days` counts per local day what runs and what would not, over the whole range.
    """

    answer: ClassVar[str] = (
        "{schedule_id, schedule_type, timezone, enabled, start, end, total, runs, skipped: {reason: count}, "
        "days: {date: {runs, skipped}}, items: [{nominal_utc, local, start_utc, reason, note}], next_start}"
    )

    limit: Items = Field(1000, description="Items at most; next_start is where the next page begins.")


class Span(Message):
    """A time in which nothing was dispatched."""

    start: When
    end: When


class SimulateSchedule(Range, name="schedule.simulate"):
    """A range as the ledger would see it; reads nothing but the schedule and writes nothing."""

    answer: ClassVar[str] = (
        "{schedule_id, schedule_type, timezone, enabled, start, end, total, runs, skipped: {reason: count}, "
        "months: {month: {runs, skipped}}, items: [{nominal_utc, local, start_utc, reason}], truncated}"
    )

    downtime: list[Span] = Field(
        default_factory=list, max_length=1000, description="Spans in which no dispatcher would run."
    )
    run_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        0, description="How long each run would take; what overlaps with it follows the overlap policy."
    )
    show: Literal["all", "runs", "skipped"] = Field("all", description="Which slots items are of.")
    limit: Items = Field(100, description="Items at most.")


class ExplainSchedule(Message, name="schedule.explain"):
    """Why a slot ran, did not run, or is none, in a sentence."""

    answer: ClassVar[str] = (
        "{schedule_id, verdict, sentence, nominal_utc, local, execution, before, after}; verdict is one of ran, "
        "running, queued, failed, skipped, unsettled, future, before_creation, unrecorded, not_a_slot, no_slot_yet"
    )
    errors: ClassVar[Errors] = (ScheduleNotFound,)

    schedule_id: Name
    at: When | None = Field(
        None, description="The slot; a whole second or minute finds the slot within it. Default: the latest."
    )


BACKFILL_SLOTS = 1000
"""Slots of one backfill, at most."""


class BackfillSchedule(ScheduleWrite, name="schedule.backfill"):
    """Run slots of a past range that have no run of their own, tagged with kind `backfill` and low priority.

    A slot with a row of kind scheduled or backfill is left alone. At most 1,000 slots at once.
    """

    answer: ClassVar[str] = (
        "{schedule_id, changed, dry_run, start, end, found, added, left_out: {reason: count}, "
        "items: [{nominal_utc, local, execution_id, reason}]}"
    )

    start: When = Field(description=START)
    end: When = Field(description=END + " Not later than now.")
    dry_run: bool = Field(True, description="Only say what would be done.")
    include_skipped: bool = Field(
        False, description="Also slots that the ledger has as skipped; their rows stay beside the new ones."
    )
