"""The client rings where the workers listen (row P-11)."""

from __future__ import annotations

from kombu.transport.redis import Channel

from broker import names
from broker.channel import SafeChannel
from sessionfleet.envelope import LARGEST
from sessionfleet.names import BELL, BELL_LIFE_MS, BUSY, list_of
from sessionfleet.request import STEPS
from sessionfleet.words import PRIORITIES


def test_the_same_bells_as_the_workers() -> None:
    assert names.bell("sessions") == f"{BELL}sessions"
    assert names.busy("sessions") == f"{BUSY}sessions"
    assert BELL_LIFE_MS == names.BELL_LIFE_MS
    assert SafeChannel.largest_message == LARGEST


def test_the_same_lists_as_the_workers() -> None:
    for word in PRIORITIES:
        assert list_of("sessions", STEPS[word]) == Channel._q_for_pri(StandIn(), "sessions", STEPS[word])


class StandIn:
    """What kombu's name of a list is made of."""

    sep = Channel.sep
    priority_steps = (0, 3, 6, 9)
    priority = Channel.priority
