"""Which slots of a past range a backfill runs: pure (row H-18)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from reviews.starts import starts
from reviews.subject import Subject
from sessionfleet.errors import ValidationFailed

CAP = 1000
"""Slots of one backfill."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A slot, to run unless there is a ``reason`` against it: scheduled, skipped or backfill say what the
    ledger has of it already, window and blackout that it would not have run, unsettled that it is the
    dispatcher's."""

    nominal: datetime
    reason: str | None


def choose(
    subject: Subject,
    begin: datetime,
    end: datetime,
    taken: Mapping[datetime, set[str]],
    *,
    next_run: datetime | None,
    include_skipped: bool = False,
) -> list[Choice]:
    """The slots in [``begin``, ``end``). Raises ValidationFailed when there are more than CAP.

    Slots from ``next_run`` on are settled by the dispatcher. ``taken``: see :func:`reviews.store.slots.taken`.
    """
    found = list(islice(_choices(subject, begin, end, taken, next_run, include_skipped), CAP + 1))
    if len(found) > CAP:
        last = found[CAP].nominal.isoformat()
        raise ValidationFailed.of(
            "end", f"the range has more than {CAP:,} slots; end it by {last} and go on from there"
        )
    return found


def _choices(
    subject: Subject,
    begin: datetime,
    end: datetime,
    taken: Mapping[datetime, set[str]],
    next_run: datetime | None,
    include_skipped: bool,
) -> Iterator[Choice]:
    for one in starts(subject.rule, subject.schedule_id, begin, end):
        has = taken.get(one.nominal, set())
        against = ["backfill", "scheduled", *(() if include_skipped else ("skipped",))]
        reason = next((word for word in against if word in has), None)
        if reason is None and next_run is not None and one.nominal >= next_run:
            reason = "unsettled"
        yield Choice(one.nominal, reason or one.reason)
