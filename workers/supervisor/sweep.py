"""Ends what a supervisor that was killed left behind, and nothing else."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable

from workers.home import Home
from workers.processes import Identity


def sweep(home: Home, grace: float = 10.0) -> list[str]:
    """Ends what still runs of the recorded processes and their groups; the names of those processes.

    A pid that was given to another program since is left alone (:class:`Identity`). The embedded
    servers clean up after themselves at their next start. Call with the fleet's lock held.
    """
    left: dict[str, Identity] = {}
    for name, entry in home.state.section("processes").items():
        identity = Identity.from_json(entry.get("identity")) if isinstance(entry, dict) else None
        if identity is not None and (identity.alive() or identity.members()):
            left[name] = identity
    end_all(left.values(), grace)
    with home.state.change("processes") as processes:
        processes.clear()
    return sorted(left)


def end_all(leaders: Iterable[Identity], grace: float) -> None:
    """SIGTERM to each, SIGKILL to each and its group when ``grace`` seconds are over."""
    everyone = [(leader, leader.members()) for leader in leaders]
    for leader, _ in everyone:
        leader.signal(signal.SIGTERM)
    until = time.monotonic() + grace
    while any(leader.alive() for leader, _ in everyone) and time.monotonic() < until:
        time.sleep(0.05)
    for leader, members in everyone:
        for one in (leader, *members):
            one.signal(signal.SIGKILL)
    while any(one.alive() for leader, members in everyone for one in (leader, *members)):
        time.sleep(0.02)
