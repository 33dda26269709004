"""The accounts a run is over: their levels, their order, the filter of the schedule. Pure (rows H-14, H-15)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sessionfleet.messages.schedule_accounts import AccountFilter, RiskLevel

UNKNOWN_RISK = 50.0


@dataclass(frozen=True, slots=True)
class Account:
    """An account of an owner; ``risk_score`` is None when nobody knows it."""

    account_id: str
    risk_score: float | None = None

    @property
    def risk(self) -> float:
        """The score that counts, 0..100."""
        return UNKNOWN_RISK if self.risk_score is None else self.risk_score

    @property
    def level(self) -> RiskLevel:
        """Above 80 critical, from 60 high, from 40 medium, below low."""
        return level_of(self.risk)

    def shown(self) -> dict[str, Any]:
        """As in answers, reports and messages to handlers."""
        return {"account_id": self.account_id, "risk_score": self.risk_score, "level": self.level}


def level_of(risk: float) -> RiskLevel:
    """The level of a score."""
    if risk > 80:
        return "critical"
    if risk >= 60:
        return "high"
    return "medium" if risk >= 40 else "low"


def ordered(assigned: Iterable[Account]) -> list[Account]:
    """Highest risk first; equal ones in the order given, which is that of assignment."""
    return sorted(assigned, key=lambda account: -account.risk)


def chosen(assigned: Iterable[Account], account_filter: Mapping[str, Any] | None) -> list[Account]:
    """Those of ``assigned`` (in order of assignment) a run with that filter is over, in its order."""
    wanted = AccountFilter.model_validate(account_filter or {})
    passing = [account for account in ordered(assigned) if _passes(account, wanted)]
    return passing[: wanted.limit]


def _passes(account: Account, wanted: AccountFilter) -> bool:
    return (
        (wanted.accounts is None or account.account_id in wanted.accounts)
        and (wanted.exclude is None or account.account_id not in wanted.exclude)
        and (wanted.risk is None or wanted.risk.min <= account.risk <= wanted.risk.max)
        and (wanted.levels is None or account.level in wanted.levels)
    )
