"""The Procfile: one line per kind of process, shell text; and how many of each (``FLEET_SCALE``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workers.home import ROOT
from workers.settings import SettingsError

RELEASE = "release"
"""The line that runs once, to its end, before the others."""

_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")
_MOST = 64


@dataclass(frozen=True)
class Line:
    """One kind of process; ``text`` is for a POSIX shell, with the checkout as working directory."""

    name: str
    text: str

    @property
    def command(self) -> list[str]:
        """The arguments that start it; the shell becomes the program, so signals reach it."""
        return ["/bin/sh", "-c", f"exec {self.text}"]


def read_procfile(path: Path = ROOT / "Procfile") -> dict[str, Line]:
    """The lines by name, in their order; what is no line (comments, blanks) is passed over."""
    found = (_LINE.match(line) for line in path.read_text().splitlines())
    return {match[1]: Line(match[1], match[2].strip()) for match in found if match}


@dataclass(frozen=True)
class Scale:
    """How many processes of each line; lines that are not named run once, ``sessions`` twice."""

    counts: Mapping[str, int] = field(default_factory=lambda: {"sessions": 2})

    def of(self, name: str) -> int:
        return self.counts.get(name, 1)

    @classmethod
    def parse(cls, text: str, names: set[str]) -> Scale:
        """From ``sessions=4,beat=2``, over the defaults; 0 leaves a line out, at most 64 each.

        Raises :class:`SettingsError` for anything else.
        """
        counts = dict(cls().counts)
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = part.partition("=")
            if name not in names or not number.isdecimal() or int(number) > _MOST:
                raise SettingsError(
                    message=f"FLEET_SCALE has {part!r} but must be a list like sessions=4,beat=2 of the lines "
                    f"{', '.join(sorted(names))} with numbers from 0 to {_MOST}: correct or remove it.",
                    setting="FLEET_SCALE",
                )
            counts[name] = int(number)
        return cls(counts)
