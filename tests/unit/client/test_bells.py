"""The client rings where the workers listen (row P-11)."""

from __future__ import annotations

from broker import names
from broker.channel import SafeChannel
from sessionfleet import bells


def test_the_same_bells_as_the_workers() -> None:
    assert names.bell("sessions") == f"{bells.BELL}sessions"
    assert bells.LIFE_MS == names.BELL_LIFE_MS
    assert SafeChannel.largest_message == bells.LARGEST
