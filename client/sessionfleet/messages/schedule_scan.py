"""schedule.scan (rows H-06, N-09)."""

from __future__ import annotations

from typing import ClassVar

from sessionfleet.messages.base import Duty


class ScanSchedules(Duty, name="schedule.scan"):
    """Look for schedules and runs that no tick has looked after, and put them right.

    `overdue`: next slots that nobody settled for a minute; `stopped`: schedules with slots to come and no next
    slot; `lost`: runs silent for a minute beyond their lease; `unsent`: runs that wait and whose message is
    overdue or far off; `duplicates`: slots with two rows, which the index makes impossible while it is there
    (`slot_index`). `clock_skew_seconds` is how far the worker's clock is ahead of the database's.
    """

    answer: ClassVar[str] = (
        "{overdue, stopped, lost, unsent, duplicates: counts, slot_index: bool, clock_skew_seconds, repaired: bool}"
    )
