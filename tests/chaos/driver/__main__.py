"""``python -m tests.chaos.driver``, what ``./fleet chaos`` runs."""

from __future__ import annotations

import argparse
import json
import secrets
import sys

from tests.chaos.driver.run import Run


def main() -> int:
    """0 when nothing was lost, doubled or left over; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="./fleet chaos")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed

    def say(line: str) -> None:
        print(f"fleet: {line}", file=sys.stderr, flush=True)

    say(f"chaos for {given.minutes:g} minutes, seed {seed}")
    report = Run(seed, say).play(given.minutes)
    print(json.dumps(report.to_json(), indent=2) if given.json else "\n".join(report.lines()))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
