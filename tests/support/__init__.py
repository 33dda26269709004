"""What tests use to start real servers and processes and to wait for what they do."""

from tests.support.running import RunningFleet
from tests.support.servers import Servers
from tests.support.waiting import eventually

__all__ = ["RunningFleet", "Servers", "eventually"]
