"""An event loop in a thread of its own, for the synchronous client."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from sessionfleet.feed import end

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for callers that have no loop. One daemon thread until :meth:`stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._posted: set[asyncio.Task[None]] = set()
        self._handing = threading.Lock()
        self._ending = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="sessionfleet-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. When the caller is interrupted, so is the coroutine; raises RuntimeError when the
        loop ends before it has one, and in a child after a fork, where it does not run."""
        future = self._handed(coroutine)
        try:
            return future.result()
        except BaseException as error:
            future.cancel()
            if isinstance(error, CancelledError) and self._ending:
                raise RuntimeError("this client was closed while the call waited") from None
            raise

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a child of the process it runs in."""
        return os.getpid() != self._process

    def _handed(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Given to the loop before it is told to end, or not at all: what comes later it would never look at."""
        if self.is_elsewhere:  # and the lock may be held by a thread that only the parent has
            coroutine.close()
            raise RuntimeError("this was opened before the fork and belongs to the parent: open another one")
        with self._handing:
            if threading.current_thread() is not self._thread and not self._ending:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise RuntimeError("this client is closed, or a blocking call was made inside its own loop")

    def post(self, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``start()`` some time soon, if the loop still runs; waits for nothing."""

        def begin() -> None:
            task = self._loop.create_task(start())
            self._posted.add(task)
            task.add_done_callback(self._posted.discard)

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(begin)

    def stop(self) -> None:
        """End the loop and its thread; harmless when repeated."""
        with self._handing:
            if not self._ending:
                self._ending = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(end(*asyncio.all_tasks(self._loop)))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
