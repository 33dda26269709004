"""The table of ``fleet bench``: pure parts only, the measuring itself is run by hand."""

from __future__ import annotations

from benchmarks.bench.report import table
from benchmarks.bench.shapes import RATIOS, SHAPES

MEASURED = {"rate": 1234.5, "p50_ms": 1.5, "p99_ms": 20.25, "workers_us": 300.0}


def test_a_ratio_compares_what_its_text_says() -> None:
    for text, one, other in RATIOS:
        assert SHAPES[one].how == "ours", text
        assert SHAPES[other].how in ("stock", "limit"), text
        assert SHAPES[one].size == SHAPES[other].size, text
        assert ("stock" in text) == (SHAPES[other].how == "stock")


def test_a_line_for_each_shape_and_gaps_for_what_was_not_measured() -> None:
    found = {
        "shapes": [{"name": "one", **MEASURED}, {"name": "pgbench", "rate": 9.0, "p50_ms": 0.25}],
        "ratios": {"one against other": 0.5},
    }
    lines = table(found).splitlines()
    assert lines[2] == "| one | 1,234 | 1.50 | 20.25 | 300 |  |  |  |  |  |"
    assert lines[3] == "| pgbench | 9 | 0.25 |  |  |  |  |  |  |  |"
    assert lines[5:] == ["- one against other: 0.50"]
    assert {line.count("|") for line in lines[:4]} == {11}
