"""What a batch has collected: operations that wait to be sent, and when it is time."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

from sessionfleet.errors import CallTimeout, FleetError, Unavailable, ValidationFailed, from_shape
from sessionfleet.messages.apply import MAX_OPERATIONS, class_of
from sessionfleet.request import Answer

MAX_WAITING = 10_000
"""Operations that may wait to be sent; adding another one waits for room."""

MESSAGE_BYTES = 4 * 1024 * 1024
"""A message is closed when its operations pass this, however few they are."""


class Entry:
    """One operation that was added."""

    __slots__ = ("asked", "future", "name", "size", "step", "until")

    def __init__(self, name: str, arguments: dict[str, Any], timeout: float) -> None:
        kind = class_of(name)
        if arguments.get("idempotency_key") is None:
            arguments["idempotency_key"] = str(uuid4())
        self.name = name
        self.step: dict[str, Any] = {"name": name, "arguments": kind.parse(arguments).arguments()}
        self.size = len(json.dumps(self.step))
        self.future: Future[Answer] = Future()
        self.until = time.monotonic() + timeout
        self.asked = False

    @property
    def key(self) -> str:
        key: str = self.step["arguments"]["idempotency_key"]
        return key

    def finish(self, item: dict[str, Any]) -> None:
        if item["ok"]:
            self.future.set_result(item["answer"])
        else:
            self.future.set_exception(from_shape(item["error"]))

    def fail(self, error: FleetError) -> None:
        shape = error.shape()
        details = {**shape["details"], "operation": self.name, "idempotency_key": self.key}
        self.future.set_exception(type(error)({**shape, "details": details}))

    def timed_out(self, seconds: float) -> CallTimeout:
        return CallTimeout(operation=self.name, seconds=round(seconds, 1), idempotency_key=self.key)


class Queue:
    """What waits to be sent, and when it is time. Filled by any thread, emptied by one."""

    def __init__(self, size: int, age: float) -> None:
        if not 1 <= size <= MAX_OPERATIONS:
            raise ValidationFailed.of("size", f"must be from 1 to {MAX_OPERATIONS}")
        if age < 0:
            raise ValidationFailed.of("age", "must be 0 or more seconds")
        self.size, self.age = size, age
        self.closing = False
        self._waiting: deque[Entry] = deque()
        self._taken: list[Entry] = []
        self._failed: list[Entry] = []
        self._lock = threading.Lock()
        self._since = 0.0
        self._bytes = 0

    def first_when_full(self) -> Future[Answer] | None:
        """What to wait for before anything else may be added."""
        with self._lock:
            return self._waiting[0].future if len(self._waiting) >= MAX_WAITING else None

    def add(self, entry: Entry) -> bool:
        """Whether the sender should hear of it."""
        with self._lock:
            if self.closing:
                raise RuntimeError("this batch is closed")
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(entry)
            self._bytes += entry.size
            return len(self._waiting) in (1, self.size) or self._bytes >= MESSAGE_BYTES

    def wait(self) -> float | None:
        """Seconds until something is to be sent: 0 = now, None = nothing is there."""
        with self._lock:
            if not self._waiting:
                return None
            if self.closing or len(self._waiting) >= self.size or self._bytes >= MESSAGE_BYTES:
                return 0.0
            return max(0.0, self._since + self.age - time.monotonic())

    def take(self) -> list[Entry]:
        """The operations of the next message; those of the one before have ended."""
        taken: list[Entry] = []
        size = 0
        with self._lock:
            while self._waiting and len(taken) < MAX_OPERATIONS and (not taken or size < MESSAGE_BYTES):
                taken.append(self._waiting.popleft())
                size += taken[-1].size
            self._bytes -= size
            self._taken = taken
        return taken

    def give_up(self) -> None:
        """Nothing is sent any more: what has no answer yet gets an error, and nothing is added."""
        with self._lock:
            self.closing = True
            left = [entry for entry in (*self._taken, *self._waiting) if not entry.future.done()]
            self._waiting.clear()
        for entry in left:
            entry.fail(Unavailable(service="the batch", reason="it was ended before there was an answer"))

    def ended(self, entries: list[Entry]) -> None:
        """Remember what failed until somebody has asked for it."""
        failed = (entry for entry in entries if entry.future.exception() is not None)
        self._failed = [entry for entry in (*self._failed, *failed) if not entry.asked]

    def nobody_asked(self) -> BaseException | None:
        """The first error that no handle was asked for."""
        return next((entry.future.exception() for entry in self._failed if not entry.asked), None)
