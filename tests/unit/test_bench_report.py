"""``fleet bench``: bars, tables and what is compared; pure parts only, the measuring itself is run by hand."""

from __future__ import annotations

import pytest

from benchmarks.bench import peers
from benchmarks.bench.environment import pinned
from benchmarks.bench.figures import Figure, figures_of, found, percentile
from benchmarks.bench.kills import judge
from benchmarks.bench.report import table, text
from benchmarks.bench.run import compared
from benchmarks.bench.shapes import RATIOS, SHAPES, Ratio
from benchmarks.bench.soak import growths

MEASURED = {"rate": 1234.5, "p50_ms": 1.5, "p99_ms": 20.25, "workers_us": 300.0}


def all_shapes() -> dict[str, str]:
    """How it is measured, by key."""
    shapes = [*SHAPES, *(shape for peer in peers.PEERS for shape in peer.shapes)]
    assert len({shape.key for shape in shapes}) == len(shapes)
    return {shape.key: shape.how for shape in shapes}


def test_a_ratio_compares_ours_with_what_its_text_says() -> None:
    how = all_shapes()
    sizes = {shape.key: shape.size for shape in SHAPES}
    for ratio in (*RATIOS, *peers.RATIOS):
        assert how[ratio.one] == "ours", ratio.text
        assert how[ratio.other] != "ours", ratio.text
        assert sizes[ratio.one] == sizes.get(ratio.other, 1), ratio.text
        assert ("stock" in ratio.text) == (how[ratio.other] == "stock"), ratio.text


def test_every_peer_is_pinned() -> None:
    versions = [pinned(peer.distribution) for peer in peers.PEERS]
    assert all(version[0].isdigit() for version in versions)


def test_a_ratio_divides_and_keeps_the_side_of_its_bar() -> None:
    shapes = {"many": {"rate": 400.0, "p99_ms": 61.0, "p50_ms": 3.0}, "other": {"rate": 100.0, "p50_ms": 2.0}}
    ratios = [Ratio("rate", "many", "other", 3.5), Ratio("p50", "many", "other", 1.0, "p50_ms", at_most=True)]
    p99, rate, p50 = compared(shapes, ratios)
    assert (p99.value, p99.most, p99.met) == (61.0, 60.0, False)
    assert (rate.value, rate.least, rate.met) == (4.0, 3.5, True)
    assert (p50.value, p50.most, p50.met) == (1.5, 1.0, False)


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        (Figure("a", 0.5, least=0.5), "| a | 0.50 | at least 0.50 | met |"),
        (Figure("b", 1.51, "ms", most=1.5), "| b | 1.51 ms | at most 1.50 | not met |"),
        (Figure("c", 12345.6, "events/s"), "| c | 12,346 events/s |  |  |"),
        (Figure("d", 0, most=0), "| d | 0 | at most 0 | met |"),
    ],
)
def test_a_figure_stands_beside_its_bar(figure: Figure, line: str) -> None:
    assert figure.line() == line


def test_what_was_measured_says_how_busy_the_machine_was_and_reads_back() -> None:
    figures = [Figure("a", 2.0, "ms", most=1.0), Figure("b", 3.0)]
    answer = found(figures, (7.25, 1.0, 0.5), measurement="hot", notes=["a note"])
    assert figures_of(answer) == figures
    assert answer["figures"][0]["met"] is False
    said = text(answer)
    assert "load average (1, 5, 15 minutes) 7.25 1.0 0.5 before" in said
    assert "| a | 2 ms | at most 1 | not met |" in said
    assert said.endswith("a note")


def test_a_line_for_each_shape_and_gaps_for_what_was_not_measured() -> None:
    shapes = [{"name": "one", **MEASURED}, {"name": "pgbench", "rate": 9.0, "p50_ms": 0.25}]
    lines = table(shapes).splitlines()
    assert lines[2] == "| one | 1,234 | 1.50 | 20.25 | 300 |  |  |  |  |  |"
    assert lines[3] == "| pgbench | 9 | 0.25 |  |  |  |  |  |  |  |"
    assert {line.count("|") for line in lines} == {11}
    assert "peers us" in table([{**shapes[0], "peers_us": 1.0}])


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 99.0)
    assert percentile([], 0.5) == 0.0


def test_memory_is_compared_after_the_start() -> None:
    sizes = [10.0] * 4 + [100.0] * 4 + [105.0] * 8 + [150.0] * 4
    assert growths([{"mib": {"sessions.1": size}} for size in sizes]) == {"sessions.1": 1.5}


def test_what_a_kill_loses_or_doubles_is_seen() -> None:
    answered = [(key, "s1", 0.1) for key in ("good", "no event", "no answer", "elsewhere", "twice")]
    effects = [("good", "s1", 1), ("no answer", "s1", 1), ("elsewhere", "s2", 1), ("twice", "s1", 2)]
    effects += [("given up", "s1", 1), ("in two sessions", "s1", 1), ("in two sessions", "s2", 1)]
    lost, doubled = judge(answered, effects, {"good", "no event", "elsewhere", "twice"})
    assert lost == ["no event", "no answer", "elsewhere"]
    assert doubled == ["twice", "in two sessions"]
