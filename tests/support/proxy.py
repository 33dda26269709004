"""A TCP proxy whose connections can be cut, frozen, slowed down or spoken to in TLS; in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

CHUNK = 65536


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and passes everything to a server there.

    ``delay``: seconds each piece waits; ``frozen``: nothing passes, connections stay open and are accepted;
    ``deaf``: what the server says is thrown away; ``after``: cut each connection once it has answered so many
    more bytes. ``tls`` speaks TLS to clients.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.deaf = False
        self.after: int | None = None
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._call(self._stop())
        self._thread.join(10)

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def cut(self) -> int:
        """Ends all connections; how many."""
        return int(self._call(self._cut()))

    def freeze(self) -> None:
        """From now on nothing passes, in neither direction."""
        self._call(self._set(open_=False))

    def thaw(self) -> None:
        """What was held back goes on."""
        self._call(self._set(open_=True))

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        self._open.set()
        await self._cut()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop.call_soon(self._loop.stop)

    async def _set(self, *, open_: bool) -> None:
        (self._open.set if open_ else self._open.clear)()

    async def _cut(self) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            for writer in pair:
                writer.transport.abort()
        return len(pairs)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, back)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(reader, back, answers=False), self._pass(there, writer, answers=True))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if answers and self.deaf:
                    continue
                if answers and self.after is not None:
                    piece = piece[: self.after]
                    self.after -= len(piece)
                writer.write(piece)
                await writer.drain()
                if answers and self.after == 0:
                    self.after = None
                    break
        writer.transport.abort()


@contextlib.contextmanager
def proxy(target: int, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A running proxy in front of a port of this machine."""
    made = Proxy(target, tls)
    made.start()
    try:
        yield made
    finally:
        made.stop()
