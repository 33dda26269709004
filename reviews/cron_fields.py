"""The text of one cron field to the numbers it stands for (row H-03)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class CronError(ValueError):
    """The expression cannot be read; the text says which part of it and why."""


@dataclass(frozen=True, slots=True)
class Field:
    """Name, lowest and highest number, and the three-letter names of one field.

    ``high`` may be above the numbers that ``*`` stands for: a weekday may be written as 7.
    """

    name: str
    low: int
    high: int
    star: range
    names: Mapping[str, int] = field(default_factory=dict)

    def numbers(self, text: str) -> frozenset[int]:
        """Of one term (no commas): ``*``, ``n`` or ``a-b``, each with ``/step``; raises :class:`CronError`.

        ``n/step`` counts from n to the highest number ``*`` has.
        """
        body, slash, step_text = text.partition("/")
        step = self._step(step_text) if slash else 1
        if body == "*":
            return frozenset(self.star[::step])
        low_text, dash, high_text = body.partition("-")
        low = self.number(low_text)
        if not dash:
            return frozenset(range(low, max(low, self.star[-1]) + 1, step)) if slash else frozenset((low,))
        high = self.number(high_text)
        if high < low and high_text == "SUN":
            high = self.high  # a week that ends on its Sunday: FRI-SUN
        if high < low:
            raise CronError(f"the {self.name} range {body} runs backwards; write it as two, {self._split(low, high)}")
        return frozenset(range(low, high + 1, step))

    def number(self, text: str) -> int:
        """One number or name; raises :class:`CronError`."""
        if text in self.names:
            return self.names[text]
        if not (text.isascii() and text.isdigit()):
            known = f" or one of {', '.join(self.names)}" if self.names else ""
            raise CronError(f"the {self.name} {text!r} is not a number{known}")
        value = int(text[:6])
        if not self.low <= value <= self.high:
            raise CronError(f"the {self.name} {text} is not between {self.low} and {self.high}")
        return value

    def _step(self, text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text[:6]) == 0:
            raise CronError(f"the step {text!r} of the {self.name} is not a number above 0")
        step = int(text[:6])
        if step > len(self.star):
            raise CronError(f"the step {step} of the {self.name} is above {len(self.star)}")
        return step

    def _split(self, low: int, high: int) -> str:
        return f"{low}-{self.star[-1]},{self.star[0]}-{high}"


def _numbered(names: str, start: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), start)}


MINUTE = Field("minute", 0, 59, range(60))
HOUR = Field("hour", 0, 23, range(24))
DAY = Field("day of month", 1, 31, range(1, 32))
MONTH = Field("month", 1, 12, range(1, 13), _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1))
WEEKDAY = Field("weekday", 0, 7, range(7), _numbered("SUN MON TUE WED THU FRI SAT", 0))
