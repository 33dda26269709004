"""A schedule to look at, stored or not: its rule and the policies of its ledger (rows H-04, H-18)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from reviews import zones
from reviews.rule import Rule
from reviews.rule_check import check


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """``schedule_id`` is empty for a definition that is not stored: its jitter is then only an example.
    ``run_count``: slots that ran so far, counted against ``max_runs``."""

    rule: Rule
    schedule_id: str = ""
    enabled: bool = True
    misfire_grace: int = 300
    coalesce: str = "latest"
    overlap: str = "skip"
    max_instances: int = 3
    max_runs: int | None = None
    run_count: int = 0

    @classmethod
    def of_row(cls, row: Mapping[str, Any], misfire_grace: int, run_count: int = 0) -> Self:
        """A stored schedule; ``misfire_grace`` (seconds) is the fleet's, for rows without their own.

        An interval's slots are counted from the next one, or from the creation when there is none.
        """
        anchor = row.get("anchor") or row["next_run"] or row["created_at"]
        return cls(
            rule=Rule.of(row, anchor=anchor),
            schedule_id=row["schedule_id"],
            run_count=run_count,
            **_policies(row, misfire_grace),
        )

    @classmethod
    def of_definition(cls, values: Mapping[str, Any], now: datetime, misfire_grace: int) -> Self:
        """A definition that is not stored; raises InvalidSchedule about the first field that does not fit."""
        rule = Rule.of(values, anchor=values.get("anchor") or now)
        check(rule)
        return cls(rule=rule, **_policies(values, misfire_grace))

    def instant(self, given: datetime) -> datetime:
        """``given`` in UTC; without an offset it is wall time of the schedule's zone, of two the first."""
        if given.tzinfo is not None:
            return given.astimezone(UTC)
        return zones.instants(given, zones.zone(self.rule.timezone))[0]


def _policies(values: Mapping[str, Any], misfire_grace: int) -> dict[str, Any]:
    names = ("enabled", "misfire_grace", "coalesce", "overlap", "max_instances", "max_runs")
    given = {name: values[name] for name in names if values.get(name) is not None}
    return {"misfire_grace": misfire_grace, **given}
