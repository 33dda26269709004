"""sessionfleet: the client of a session fleet (R-11).

>>> from sessionfleet import Fleet, AsyncFleet, Event, FleetError

The names are loaded when they are first used: the fleet's own rooms import messages and errors
from here and must not pull in Celery and Redis with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessionfleet.aio import AsyncFleet
    from sessionfleet.chunk import Chunk
    from sessionfleet.errors import FleetError
    from sessionfleet.event import Event
    from sessionfleet.fleet import Fleet
    from sessionfleet.handle import AsyncHandle, Handle

__version__ = "0.1.0"

__all__ = ["AsyncFleet", "AsyncHandle", "Chunk", "Event", "Fleet", "FleetError", "Handle"]

_HOMES = {
    "AsyncFleet": "aio",
    "AsyncHandle": "handle",
    "Chunk": "chunk",
    "Event": "event",
    "Fleet": "fleet",
    "FleetError": "errors",
    "Handle": "handle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
