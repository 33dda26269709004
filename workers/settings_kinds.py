"""The kinds of settings and their bounds (features.md, "Notation"), as declarations for pydantic fields.

A bound is data, not code: the check, the message of a refusal, the generated reference page and the
tests all read the same :class:`Spec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field
from pydantic.fields import FieldInfo

Kind = Literal["count", "duration", "switch", "text", "host", "url", "choice", "durations"]

WEEK = 604_800
MILLION = 1_000_000


@dataclass(frozen=True)
class Spec:
    """What one setting accepts.

    ``low``..``high`` are inclusive and apply to ``count``, ``duration`` and each element of
    ``durations``; ``off`` also admits 0; ``choices`` are the words of a ``choice``; a ``secret`` is
    never printed; ``row`` is the source row; ``later`` names the row whose code will read a setting
    that is accepted and checked today but changes nothing yet.
    """

    kind: Kind
    row: str
    low: int = 0
    high: int = 0
    unit: str = ""
    off: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    later: str = ""

    def bounds(self, environment: str) -> tuple[int, int]:
        """The inclusive bounds; in the ``test`` environment every duration may go down to 1."""
        if environment == "test" and self.kind in ("duration", "durations"):
            return min(1, self.low), self.high
        return self.low, self.high

    def allows(self, value: int, environment: str) -> bool:
        """Whether the number is inside the bounds, 0 counting as "off" where it means that."""
        low, high = self.bounds(environment)
        return low <= value <= high or (self.off and value == 0)

    def describe(self, environment: str) -> str:
        """The bound in words, to follow "must be"."""
        low, high = self.bounds(environment)
        unit = f" {self.unit}" if self.unit else ""
        off = " (or 0 for off)" if self.off and low > 0 else ""
        match self.kind:
            case "count" | "duration":
                return f"a whole number from {low} to {high}{unit}{off}"
            case "durations":
                return f"a list of whole numbers from {low} to {high}{unit}, such as 300,60"
            case "switch":
                return "true or false"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case "url" if "redis" in self.choices:
                return "redis://[[user]:password@]host[:port][/N] or rediss://..., N from 0 to 15"
            case "url":
                return "a URL starting with " + " or ".join(f"{scheme}://" for scheme in self.choices)
            case "host":
                return "the name or the address of a machine, without port"
            case "text":
                return "text"


def spec_of(field: FieldInfo) -> Spec:
    """The declaration behind one field of the settings."""
    extra = cast(dict[str, Any], field.json_schema_extra)
    spec: Spec = extra["spec"]
    return spec


def _field(default: Any, meaning: str, spec: Spec) -> Any:
    return Field(default, description=meaning, json_schema_extra=cast(Any, {"spec": spec}))


def count(
    default: int, row: str, meaning: str, low: int = 1, high: int = MILLION, unit: str = "", **more: Any
) -> Any:
    """A whole number without a time unit, 1..1000000 unless its row prints bounds."""
    return _field(default, meaning, Spec("count", row, low, high, unit, **more))


def duration(
    default: int, row: str, meaning: str, low: int = 1, high: int = WEEK, unit: str = "seconds", **more: Any
) -> Any:
    """A duration in whole seconds (or ``unit``), 1..604800 unless its row prints bounds."""
    return _field(default, meaning, Spec("duration", row, low, high, unit, **more))


def durations(default: tuple[int, ...], row: str, meaning: str) -> Any:
    """Several durations in seconds, 1..604800 each."""
    return _field(default, meaning, Spec("durations", row, 1, WEEK, "seconds"))


def switch(default: bool, row: str, meaning: str, later: str = "") -> Any:
    """On or off."""
    return _field(default, meaning, Spec("switch", row, later=later))


def text(default: str, row: str, meaning: str, secret: bool = False, later: str = "") -> Any:
    """Free text."""
    return _field(default, meaning, Spec("text", row, secret=secret, later=later))


def host(default: str, row: str, meaning: str) -> Any:
    """The name or the address of a machine."""
    return _field(default, meaning, Spec("host", row))


def choice(default: str, row: str, meaning: str, *choices: str) -> Any:
    """One word of a closed list."""
    return _field(default, meaning, Spec("choice", row, choices=choices))


def url(default: str, row: str, meaning: str, *schemes: str) -> Any:
    """A URL with one of the schemes; its password is never printed."""
    return _field(default, meaning, Spec("url", row, choices=schemes))
