"""schedule.assign and schedule.assignments: the accounts of an owner; the filter of a schedule (rows H-14, H-15)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Message, Name, Write, invalid

Risk = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
RiskLevel = Literal["critical", "high", "medium", "low"]

MAX_ACCOUNTS = 10_000
"""Accounts of one owner: as many as a session can name."""

Accounts = Annotated[list[Name], Field(min_length=1, max_length=MAX_ACCOUNTS)]


class RiskRange(BaseModel):
    """Bounds that both belong to the range."""

    model_config = ConfigDict(extra="forbid", strict=True)

    min: Risk = 0
    max: Risk = 100

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.max < self.min:
            raise ValueError("max is below min")
        return self


class AccountFilter(BaseModel):
    """Which of the owner's accounts a run is over: those that meet every part that is given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    accounts: Accounts | None = None
    exclude: Accounts | None = None
    risk: RiskRange | None = None
    levels: Annotated[list[RiskLevel], Field(min_length=1)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_ACCOUNTS)] | None = None


def _readable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        AccountFilter.model_validate(value)
    except ValidationError as error:
        found = invalid(error).details["fields"][0]
        raise ValueError(f"{found['field']}: {found['message']}") from None
    return value


Filter = Annotated[
    JsonObject,
    AfterValidator(_readable),
    Field(
        description="Accounts a run is over: `accounts`, `exclude` (lists), `risk` ({min, max}), `levels`, "
        "`limit` (the first so many); all given parts must hold (H-14)."
    ),
]


class Assignment(BaseModel):
    """An account and its risk."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account_id: Name
    risk_score: Risk | None = Field(None, description="0..100; null is unknown and counts as 50.")


class AssignAccounts(Write, name="schedule.assign"):
    """Give accounts to an owner, change their risk, or take them away; what is so already stays as it is.

    Every run of the owner's schedules reads them anew, highest risk first: above 80 critical, from 60 high, from
    40 medium, below low. Equal ones keep the order in which they were assigned. Removing comes before setting.
    An owner has at most 10,000.
    """

    answer: ClassVar[str] = "{owner_id, changed, added, updated, removed, total}"

    owner_id: Name
    accounts: Annotated[list[Assignment], Field(max_length=1000)] = Field(
        default_factory=list, description="Each {account_id, risk_score}."
    )
    remove: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list, description="Account ids.")

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        named = [one.account_id for one in self.accounts] + list(self.remove)
        if not named:
            raise ValueError("accounts: give accounts or remove")
        twice = {name for name in named if named.count(name) > 1} if len(set(named)) < len(named) else None
        if twice:
            raise ValueError(f"accounts: {min(twice)} is named twice")
        return self


class ListAssignments(Message, name="schedule.assignments"):
    """The accounts of an owner in the order of a review: highest risk first, equal ones as assigned."""

    answer: ClassVar[str] = (
        "{items: [{account_id, risk_score, level, assigned_at}], total, next_cursor}; risk_score null is unknown"
    )

    owner_id: Name
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str, Field(max_length=512)] | None = None
