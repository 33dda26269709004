"""The table of a run, as Markdown."""

from __future__ import annotations

from typing import Any

PARTS = ("workers", "relay", "stock", "postgres", "valkey", "clients")


def table(found: dict[str, Any]) -> str:
    """One line per shape: rate, latency of a message, processor time per operation; then the ratios."""
    lines = [
        f"| shape | op/s | p50 ms | p99 ms | {' | '.join(f'{part} us' for part in PARTS)} |",
        "|---|" + "---|" * (len(PARTS) + 3),
    ]
    for shape in found["shapes"]:
        cells = [f"{shape['rate']:,.0f}", f"{shape['p50_ms']:.2f}", _number(shape.get("p99_ms"), 2)]
        cells += [_number(shape.get(f"{part}_us"), 0) for part in PARTS]
        lines.append(f"| {shape['name']} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- {text}: {value:.2f}" for text, value in found["ratios"].items()]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
