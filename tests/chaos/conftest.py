"""Fleets that several files of this folder use, one for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import RunningFleet
from tests.support.private import private_fleets


@pytest.fixture(scope="module")
def fleet_of_one() -> Iterator[RunningFleet]:
    with private_fleets() as make:
        yield make(sessions=1, relay=0)


@pytest.fixture
def single(fleet_of_one: RunningFleet) -> RunningFleet:
    """A fleet with one sessions worker, which takes all that waits; also after a test that failed without one."""
    if not fleet_of_one.of("sessions"):
        fleet_of_one.start("sessions")
    return fleet_of_one
