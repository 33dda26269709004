"""``python -m benchmarks.bench [--quick] [--json]``."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.bench.report import table
from benchmarks.bench.run import bench


def main() -> None:
    parser = argparse.ArgumentParser(prog="fleet bench", description="Measure the fleet on this machine.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    seconds, rounds = (1.5, 3) if wanted.quick else (4.0, 5)
    found = bench(seconds, rounds, lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=2) if wanted.json else table(found))


if __name__ == "__main__":
    main()
