"""A transaction left open on one session's row: what it does to the others, and to that one.

``python -m tests.chaos.held_row [--seconds 45] [--workers 2]`` with the repository root and ``client`` on PYTHONPATH
starts a fleet of its own. For a few seconds, and then for so many more with one row held, 20 callers append output to
sessions of their own, and a call a second, which nobody awaits before the next, goes to the held one. Prints what was
found, latencies beside those without a held row; exit code 1 when an operation was lost or doubled, when another
session had to wait for longer than NEIGHBOURS, or the held one for an answer longer than OWN.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from broker.waiting import LONGEST
from sessionfleet import AsyncFleet
from sessionfleet.errors import FleetError
from tests.support.asking import new
from tests.support.crowd import hold
from tests.support.private import private_fleets
from tests.support.running import RunningFleet

CALLERS = 20
PAUSE = 0.2
"""Seconds between two calls of one of them."""

BEFORE = 10.0
"""Seconds without a held row."""

NEIGHBOURS = 10.0
"""Seconds: the second that a list waits for a row, on a busy machine."""

OWN = LONGEST + 10
"""Seconds until a call on the held row must have its answer or its error."""


async def line(remote: AsyncFleet, session_id: str, times: list[float], errors: list[str]) -> None:
    began = time.monotonic()
    try:
        await remote.call("session.append_output", OWN + NEIGHBOURS, session_id=session_id, content="line\n")
    except FleetError as error:
        errors.append(error.code)
    times.append(time.monotonic() - began)


async def load(remote: AsyncFleet, ids: list[str], until: float, times: list[float], errors: list[str]) -> None:
    async def caller(session_id: str) -> None:
        while time.monotonic() < until:
            await line(remote, session_id, times, errors)
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*map(caller, ids))


async def measure(fleet: RunningFleet, seconds: float) -> dict[str, Any]:
    ids = [new(fleet)["id"] for _ in range(CALLERS)]
    one = new(fleet)["id"]
    free, others, own = ([], [], []), ([], []), ([], [])  # type: Any
    async with AsyncFleet(fleet.client.servers) as remote:
        await load(remote, ids, time.monotonic() + BEFORE, free[0], free[1])
        until = time.monotonic() + seconds
        with fleet.engine.begin() as db:
            hold(db, one)
            neighbours = asyncio.create_task(load(remote, ids, until, *others))
            calls = []
            while time.monotonic() < until:
                calls.append(asyncio.create_task(line(remote, one, *own)))
                await asyncio.sleep(1)
            await neighbours
        await asyncio.gather(*calls)
    lines = {each: fleet.call("session.read_output", session_id=each)["output"].count("\n") for each in [*ids, one]}
    done = len(own[0]) - len(own[1])
    sent = len(free[0]) + len(others[0])
    return {
        "before": percentiles(free[0]),
        "others": percentiles(others[0]),
        "held": {"calls": len(calls), "answered": done, "refused": len(own[1]), "max_s": round(max(own[0]), 3)},
        "errors_of_others": len(free[1]) + len(others[1]),
        "lost_or_doubled": abs(sum(lines[each] for each in ids) - sent) + abs(lines[one] - done),
    }


def percentiles(times: list[float]) -> dict[str, float]:
    times.sort()
    at = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    found = {name: round(times[min(len(times) - 1, int(len(times) * part))] * 1000, 1) for name, part in at.items()}
    return {"calls": len(times), **found}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.held_row", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--workers", type=int, default=2)
    wanted = parser.parse_args()
    with private_fleets() as make:
        fleet = make(sessions=wanted.workers, relay=1)
        found = asyncio.run(measure(fleet, wanted.seconds))
    print(json.dumps(found))
    late = found["others"]["max_ms"] > NEIGHBOURS * 1000 or found["held"]["max_s"] > OWN
    return int(bool(found["lost_or_doubled"] or found["errors_of_others"] or late))


if __name__ == "__main__":
    sys.exit(main())
