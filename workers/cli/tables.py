"""Plain tables and instants for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from unicodedata import category

CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of what no line can show: controls, surrogates, separators of lines and paragraphs."""


def plain(text: str) -> str:
    """``text`` on one line: control characters, such as line breaks and a terminal's escapes, as Python writes them.

    Names, reasons and notes come from whoever sent them.
    """
    return "".join(repr(one)[1:-1] if category(one) in CONTROLS else one for one in text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; the last one runs free. A row is one line."""
    lines = [[plain(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(heads) - 1)]
    return "\n".join("  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip() for line in lines)


def instant(text: str | None) -> str:
    """``2026-03-29 12:00:05`` of an ISO instant that is in UTC; a dash for none."""
    return "-" if text is None else datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """``90 ms``, ``2.5 s``, ``5 min``, ``2 h 30 min``, ``1 d``: two units at most."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts = []
    rest = timedelta(seconds=round(seconds))
    for unit, size in (
        ("d", timedelta(days=1)),
        ("h", timedelta(hours=1)),
        ("min", timedelta(minutes=1)),
        ("s", None),
    ):
        count, rest = divmod(rest, size) if size is not None else (int(rest.total_seconds()), rest)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
