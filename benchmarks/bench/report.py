"""The tables of a run, as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.bench.figures import figures_of, figures_table, machine_line

PARTS = ("workers", "relay", "stock", "peers", "postgres", "valkey", "clients")


def text(found: dict[str, Any]) -> str:
    """Everything that a measurement says to a reader."""
    parts = [machine_line(found["machine"])]
    if "shapes" in found:
        parts.append(table(found["shapes"]))
    parts.append(figures_table(figures_of(found)))
    parts += found.get("notes", [])
    return "\n\n".join(parts)


def table(shapes: list[dict[str, Any]]) -> str:
    """One line per shape: rate, latency of a message, processor time per operation."""
    parts = [part for part in PARTS if part != "peers" or any("peers_us" in shape for shape in shapes)]
    lines = [
        f"| shape | op/s | p50 ms | p99 ms | {' | '.join(f'{part} us' for part in parts)} |",
        "|---|" + "---|" * (len(parts) + 3),
    ]
    for shape in shapes:
        cells = [f"{shape['rate']:,.0f}", f"{shape['p50_ms']:.2f}", _number(shape.get("p99_ms"), 2)]
        cells += [_number(shape.get(f"{part}_us"), 0) for part in parts]
        lines.append(f"| {shape['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
