"""Draws a measurement: ``python -m benchmarks.bench.plots FOLDER`` with its JSON on stdin, names of PNGs out.

Runs in ``.fleet/plots-venv``; knows neither the fleet nor its packages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

OURS, OTHERS = "#1f6feb", "#9aa4b2"
WIDTH = 9.0
DPI = 110


def main() -> None:
    found, folder = json.load(sys.stdin), Path(sys.argv[1])
    for name, figure in drawn(found):
        figure.savefig(folder / name, dpi=DPI, bbox_inches="tight")
        print(name)


def drawn(found: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Name of the file and picture, whatever the measurement gives."""
    about = _about(found["machine"])
    if found["measurement"] == "shapes":
        yield "bench-throughput.png", throughput(found["shapes"], about)
        yield "bench-latency.png", latency(found["shapes"], about)
    elif found["measurement"] == "growth":
        yield "bench-growth.png", growth(found["growth"], about)
    elif found["measurement"] == "soak":
        yield "bench-soak.png", soak(found["samples"], about)


def throughput(shapes: list[dict[str, Any]], about: str) -> Figure:
    """Operations a second of each shape."""
    figure, axes = _page(len(shapes), "Operations a second (medians; longer is better)", about)
    bars = axes.barh([one["name"] for one in shapes], [one["rate"] for one in shapes], color=_colours(shapes))
    axes.bar_label(bars, labels=[f" {one['rate']:,.0f}" for one in shapes], fontsize=8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    return figure


def latency(shapes: list[dict[str, Any]], about: str) -> Figure:
    """p50 and p99 of one message of each shape."""
    shown = [one for one in shapes if one.get("p99_ms") is not None]
    figure, axes = _page(len(shown), "Latency of one message, p50 to p99, ms (medians; left is better)", about)
    places, colours = range(len(shown)), _colours(shown)
    low, high = [one["p50_ms"] for one in shown], [one["p99_ms"] for one in shown]
    axes.hlines(places, low, high, color=colours, linewidth=4)
    axes.scatter(low, places, color=colours, zorder=3, label="p50")
    axes.scatter(high, places, color=colours, marker="|", s=120, zorder=3, label="p99")
    for place, one in zip(places, shown, strict=True):
        text = f"  {_short(one['p50_ms'])} to {_short(one['p99_ms'])}"
        axes.annotate(text, (one["p99_ms"], place), va="center", fontsize=8)
    axes.set_yticks(places, [one["name"] for one in shown])
    axes.set_xscale("log")
    axes.legend(loc="lower right", fontsize=8)
    axes.invert_yaxis()
    return figure


def growth(rows: list[dict[str, Any]], about: str) -> Figure:
    """What grows with the number of sessions, each relative to the small database."""
    figure, axes = _page(len(rows), "Large database relative to small (1 = no difference)", about)
    shares = [row["large"] / row["small"] for row in rows]
    bars = axes.barh([row["name"] for row in rows], shares, color=OURS)
    labels = [f" {_short(row['small'])} to {_short(row['large'])} {row['unit']}" for row in rows]
    axes.bar_label(bars, labels=labels, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlim(0, max(shares) * 1.4)
    axes.invert_yaxis()
    return figure


def soak(samples: list[dict[str, Any]], about: str) -> Figure:
    """Memory of each process over time."""
    figure, axes = _page(10, "Memory (RSS, MiB) over the run, by process", about)
    for name in samples[0]["mib"]:
        axes.plot([one["at"] for one in samples], [one["mib"][name] for one in samples], label=name)
    axes.set_xlabel("seconds")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _page(lines: int, title: str, about: str) -> tuple[Figure, Any]:
    figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.32 * lines))
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, -0.02, about, fontsize=7, color="#57606a")
    return figure, axes


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _colours(shapes: list[dict[str, Any]]) -> list[str]:
    ours = ("session.", "fleet.")
    return [OURS if one["name"].startswith(ours) else OTHERS for one in shapes]


def _about(machine: dict[str, Any]) -> str:
    load = machine["load_before"][0]
    return f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}; load average before: {load}"


if __name__ == "__main__":
    main()
