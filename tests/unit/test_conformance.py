"""docs/conformance.md names tests that exist and leaves out no finished row."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^\| ([A-R]-\d\d) \| ([^|]+) \| ([^|]+) \|$")
TEST = re.compile(r"^`(tests/[\w/]+\.py)::(test_\w+)`$")

FINISHED = {
    "A": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20",
    "B": "01 02 04 05 06 07 08 09 10 11 12 13 14",
    "C": "01 02 03 04 05",
    "D": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18",
    "E": "01 02 03 04 05 06 08 09 14",
    "H": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20",
    "I": "03 04",
    "J": "01 02 03 04 07",
    "P": "10 11",
    "Q": "01 02 03 04 06 07",
    "R": "07 08 09 11",
}
"""Rows whose demand is met; a row is added here with the change that meets it."""


@cache
def names_in(path: str) -> frozenset[str]:
    """Names of the test functions of a file; parametrised ones have one name."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def table() -> list[tuple[str, list[str]]]:
    """(row, what stands in its last column) of every line of the page's tables."""
    lines = (ROOT / "docs/conformance.md").read_text().splitlines()
    found = [match.groups() for line in lines if (match := LINE.match(line))]
    assert len(found) == sum(line.startswith("| ") and not line.startswith("| row ") for line in lines)
    return [(row, cell.split("<br>")) for row, _, cell in found]


def test_every_named_test_exists() -> None:
    for row, cells in table():
        for cell in cells:
            named = TEST.match(cell)
            assert named, f"{row}: {cell} is not `tests/path/test_x.py::test_name`"
            path, name = named.groups()
            assert (ROOT / path).is_file(), f"{row}: there is no {path}"
            assert name in names_in(path), f"{row}: {path} has no {name}"


def test_every_finished_row_is_there_once_and_no_other() -> None:
    finished = {f"{section}-{number}" for section, numbers in FINISHED.items() for number in numbers.split()}
    rows = Counter(row for row, _ in table())
    assert set(rows) == finished
    assert max(rows.values()) == 1


def test_no_row_names_a_test_twice() -> None:
    for row, cells in table():
        assert len(cells) == len(set(cells)), row
