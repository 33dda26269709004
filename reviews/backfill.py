"""Which slots of a past range a backfill runs: pure (row H-18)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from reviews.starts import Start, starts
from reviews.subject import Subject
from sessionfleet.errors import ValidationFailed
from sessionfleet.messages.schedule_views import BACKFILL_SLOTS


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
    taken: Callable[[], Mapping[datetime, set[str]]],
    *,
    next_run: datetime | None,
    include_skipped: bool = False,
) -> list[Choice]:
    """The slots in [``begin``, ``end``). Raises ValidationFailed when there are more than BACKFILL_SLOTS.

    Slots from ``next_run`` on are settled by the dispatcher. ``taken`` reads what the ledger has of the range
    (:func:`reviews.store.slots.taken`), and is not asked about one with too many slots.
    """
    found = list(islice(starts(subject.rule, subject.schedule_id, begin, end), BACKFILL_SLOTS + 1))
    if len(found) > BACKFILL_SLOTS:
        last = found[BACKFILL_SLOTS].nominal.isoformat()
        raise ValidationFailed.of(
            "end", f"the range has more than {BACKFILL_SLOTS:,} slots; end it by {last} and go on from there"
        )
    ledger = taken() if found else {}
    against = ["backfill", "scheduled", *(() if include_skipped else ("skipped",))]
    return [Choice(one.nominal, _against(one, ledger.get(one.nominal, set()), against, next_run)) for one in found]


def _against(one: Start, has: set[str], against: Sequence[str], next_run: datetime | None) -> str | None:
    reason = next((word for word in against if word in has), None)
    if reason is None and next_run is not None and one.nominal >= next_run:
        return "unsettled"
    return reason or one.reason
