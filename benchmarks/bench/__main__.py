"""``python -m benchmarks.bench``, what ``./fleet bench`` runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.bench.environment import EnvironmentMissing, python_of
from benchmarks.bench.report import text


def say(line: str) -> None:
    """Progress, beside the answer on stdout."""
    print(f"fleet: {line}", file=sys.stderr, flush=True)


def main() -> None:
    given = arguments()
    try:
        if given.plots:
            python_of("plots", say)
        found = measure(given)
    except EnvironmentMissing as error:
        say(str(error))
        sys.exit(2)
    if given.json:
        print(text(found), file=sys.stderr)
        print(json.dumps(found, indent=2))
    else:
        print(text(found))
    if given.plots:
        from benchmarks.bench.plotting import plot

        plot(found, Path(given.plots), say)


def arguments() -> argparse.Namespace:
    """What the command line says; one measurement at most beside the shapes."""
    parser = argparse.ArgumentParser(prog="./fleet bench", description="Measure the fleet on this machine.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--peers", action="store_true")
    what.add_argument("--growth", action="store_true")
    what.add_argument("--hot", action="store_true")
    what.add_argument("--fanout", action="store_true")
    what.add_argument("--soak", type=float, metavar="MINUTES")
    what.add_argument("--kills", type=int, metavar="N")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plots", metavar="DIR")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--events", type=int)
    return parser.parse_args()


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The measurement that was asked for."""
    rounds, seconds = given.rounds or (3 if given.quick else 5), given.seconds or (1.5 if given.quick else 4.0)
    if given.growth:
        from benchmarks.bench.growth import growth

        return growth(given.sessions or 1_000_000, given.events or 10_000_000, seconds, rounds, say)
    if given.hot:
        from benchmarks.bench.hot import hot

        return hot(seconds, rounds, say)
    if given.fanout:
        from benchmarks.bench.fan_out import fan_out

        return fan_out(given.events or 50_000, given.seconds or (10.0 if given.quick else 30.0), rounds, say)
    if given.soak is not None:
        from benchmarks.bench.soak import soak

        return soak(given.soak * 60, given.sessions or 1000, say)
    if given.kills is not None:
        from benchmarks.bench.kills import kills

        return kills(given.kills, say)
    from benchmarks.bench.run import bench

    return bench(seconds, rounds, say, python_of("peers", say) if given.peers else None)


if __name__ == "__main__":
    main()
