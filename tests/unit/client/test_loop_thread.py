"""The loop of the synchronous client: whoever calls gets an end, whenever it is stopped."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sessionfleet.loop_thread import LoopThread


def test_a_call_that_waits_ends_with_the_loop() -> None:
    loop, begun = LoopThread(), threading.Event()
    ends: list[BaseException] = []

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            loop.run(wait())
        except RuntimeError as error:
            ends.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(10)
    loop.stop()
    caller.join(10)
    assert not caller.is_alive()
    assert "closed while the call waited" in str(ends[0])
    loop.stop()
    with pytest.raises(RuntimeError, match="this client is closed"):
        loop.run(asyncio.sleep(0))


@pytest.mark.parametrize("_round", range(20))
def test_calls_that_meet_the_end_do_not_wait_for_ever(_round: int) -> None:
    """Each is answered or refused."""
    loop, going = LoopThread(), threading.Barrier(5)

    def call() -> None:
        going.wait(10)
        with pytest.raises(RuntimeError):
            while True:
                loop.run(asyncio.sleep(0))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    going.wait(10)
    loop.stop()
    for caller in callers:
        caller.join(10)
    assert not any(caller.is_alive() for caller in callers)
