"""``python -m benchmarks.bench.peers MODULE [prepare]``: a load process of one peer, or its tables made."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.bench.protocol import serve

if __name__ == "__main__":
    adapter = import_module(f"benchmarks.bench.peers.{sys.argv[1]}")
    if sys.argv[2:] == ["prepare"]:
        if hasattr(adapter, "prepare"):
            adapter.prepare()
    else:
        serve(adapter.drive)
