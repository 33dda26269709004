"""Following events through a running relay: everything once, in order, whatever happens to Redis."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import dropwhile, islice
from types import FrameType
from uuid import uuid4

import pytest

from sessionfleet import AsyncFleet, Event, Fleet
from sessionfleet.errors import SessionNotFound, ValidationFailed
from tests.integration.client.test_calls import urls
from tests.support import RunningFleet, eventually


def names(events: Iterable[Event]) -> list[str]:
    return [event.event_name for event in events if not event.is_mark]


def numbers(events: Iterable[Event]) -> list[int]:
    return [event.seq for event in events if not event.is_mark]


def marks(events: Iterable[Event]) -> list[tuple[int, str, str | None]]:
    """Place, seq and reason of each mark."""
    return [(n, event.event_name, event.reason) for n, event in enumerate(events) if event.is_mark]


class Listener:
    """Reads a subscription in a thread, as an application does."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.seen: list[Event] = []
        self.ended = False
        self._events = events
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._events:
            self.seen.append(event)
        self.ended = True

    def join(self, timeout: float = 60) -> list[Event]:
        self._thread.join(timeout)
        assert self.ended, f"still listening after {numbers(self.seen)}"
        return self.seen


def test_a_life_from_its_beginning_to_its_end(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", agent_id="a1")["id"]
    with fleet.client.subscribe(session_id, after_seq=0) as events:
        listener = Listener(events)
        fleet.call("session.start", session_id=session_id, actor="me")
        fleet.call("session.append_output", session_id=session_id, content="hello\n")
        fleet.call("session.pause", session_id=session_id)
        fleet.call("session.complete", session_id=session_id)
        *seen, end = listener.join()
    assert (end.is_end, end.seq, end.reason) == (True, 5, "completed")
    assert names(seen) == [
        "session.created",
        "session.started",
        "output.received",
        "session.paused",
        "session.completed",
    ]
    assert numbers(seen) == [1, 2, 3, 4, 5]
    [replay_end] = (event for event in seen if event.is_replay_end)
    assert replay_end.seq in range(1, 6)
    seen.remove(replay_end)
    assert {event.session_id for event in seen} == {session_id}
    assert seen[1].actor == "me"
    assert seen[1].event_type == "session.updated"
    assert seen[3].payload["status"] == "paused"
    stored = fleet.call("session.get_events", session_id=session_id)["items"]
    assert [event.raw["event_id"] for event in seen] == [one["event_id"] for one in stored]
    assert [event.timestamp.isoformat() for event in seen if event.timestamp] == [one["timestamp"] for one in stored]


def test_without_a_cursor_it_begins_now(fleet: RunningFleet) -> None:
    external_id = f"now-{uuid4()}"
    fleet.call("session.create", external_id=external_id, status="active")
    events = fleet.client.subscribe(external_id)
    fleet.call("session.pause", session_id=external_id)
    fleet.call("session.terminate", session_id=external_id)
    assert names(events) == ["session.paused", "session.terminated"]


def test_from_a_cursor_on(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    for n in range(5):
        fleet.call("session.append_output", session_id=session_id, content=f"{n}\n")
    fleet.call("session.complete", session_id=session_id)
    assert numbers(fleet.client.subscribe(session_id, after_seq=5)) == [6, 7, 8]


def test_a_long_past_is_read_in_pages(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionfleet.session_events.PAGE", 3)
    session_id = fleet.call("session.create", status="active")["id"]
    for n in range(7):
        fleet.call("session.append_output", session_id=session_id, content=f"{n}\n")
    fleet.call("session.complete", session_id=session_id)
    assert numbers(fleet.client.subscribe(session_id, after_seq=0)) == list(range(1, 11))


def test_an_ended_session_has_no_future(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    fleet.call("session.terminate", session_id=session_id)
    for after_seq in (None, 2):
        told = list(fleet.client.subscribe(session_id, after_seq))
        assert marks(told) == [(0, "replay_end", None), (1, "end", "terminated")]
    assert names(fleet.client.subscribe(session_id, after_seq=0)) == ["session.created", "session.terminated"]


def test_a_deletion_is_the_end(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    with fleet.client.subscribe(session_id) as events:
        fleet.call("session.delete", session_id=session_id)
        seen = list(events)
        assert names(seen) == ["session.deleted"]
        assert marks(seen) == [(0, "replay_end", None), (2, "end", "deleted")]
    with pytest.raises(SessionNotFound):
        fleet.client.subscribe(session_id)


def test_an_unknown_session_is_said_at_once(fleet: RunningFleet) -> None:
    with pytest.raises(SessionNotFound):
        fleet.client.subscribe("nobody", after_seq=0)


def test_events_kept_off_the_channel_fill_the_gap(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    with fleet.client.subscribe(session_id) as events:
        for _ in range(3):
            fleet.call("session.emit_event", session_id=session_id, type="thought", publish=False)
        fleet.call("session.complete", session_id=session_id)
        assert numbers(events) == [3, 4, 5, 6]


def test_repeats_and_noise_on_the_channel_are_passed_over(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    with fleet.client.subscribe(session_id, after_seq=1, marks=False) as events:
        first = next(events)
        channel = f"{fleet.settings.channel_prefix}session:{session_id}"
        for noise in ("", "{}", '{"seq": "x"}', '{"event_name": "session.completed"}'):
            fleet.cache.publish(channel, noise)
        fleet.call("session.pause", session_id=session_id)
        paused = next(events)
        [stored] = fleet.call("session.get_events", session_id=session_id, after_seq=2)["items"]
        for _ in range(3):
            fleet.cache.publish(channel, json.dumps(stored))
        fleet.call("session.complete", session_id=session_id)
        assert [first.seq, paused.seq, *numbers(events)] == [2, 3, 4]


def test_types_choose_what_is_handed_out(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    fleet.call("session.append_output", session_id=session_id, content="x")
    fleet.call("session.start", session_id=session_id)
    fleet.call("session.complete", session_id=session_id)
    assert names(fleet.client.subscribe(session_id, 0, types=["output.received"])) == ["output.received"]
    updated = fleet.client.subscribe(session_id, 0, types={"session.updated"})
    assert names(updated) == ["session.started", "session.completed"], "also by the coarse word of R-04"


def test_silence_can_end_it(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    started = time.monotonic()
    assert numbers(fleet.client.subscribe(session_id, 0, timeout=0.5)) == [1]
    assert 0.4 < time.monotonic() - started < 20
    told = list(fleet.client.subscribe(types=["never.sent"], timeout=0.3))
    assert marks(told) == [(0, "replay_end", None), (1, "end", "timeout")]
    assert list(fleet.client.subscribe(session_id, timeout=0.1, marks=False)) == []


def test_what_the_consumer_does_meanwhile_is_no_silence(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    events = fleet.client.subscribe(session_id, 1, timeout=1, marks=False)
    assert next(events).seq == 2
    fleet.call("session.pause", session_id=session_id)
    eventually(lambda: fleet.cache.xlen(f"stream:session:{session_id}") == 3)
    time.sleep(1.2)  # longer than its timeout
    assert next(events).seq == 3
    events.close()


def test_pings_show_that_it_lives(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    with fleet.client.subscribe(session_id, 0, ping=0.1, marks=False) as events:
        # On a busy machine pings come also while it still looks for what is past.
        first, *pings = islice(dropwhile(lambda event: event.is_ping, events), 4)
    assert not first.is_ping
    assert [(ping.is_ping, ping.seq) for ping in pings] == [(True, 1)] * 3


def test_arguments_that_do_not_go_together(fleet: RunningFleet) -> None:
    with pytest.raises(ValidationFailed, match="after_seq"):
        fleet.client.subscribe(after_seq=3)
    with pytest.raises(ValidationFailed, match="after"):
        fleet.client.subscribe("s", after="1-1")
    with pytest.raises(ValidationFailed, match="after"):
        fleet.client.subscribe(after="yesterday")


def test_all_sessions_in_commit_order(fleet: RunningFleet) -> None:
    user = f"all-{uuid4()}"
    with fleet.client.subscribe() as events:
        ids = [fleet.call("session.create", user_id=user)["id"] for _ in range(3)]
        for session_id in ids:
            fleet.call("session.terminate", session_id=session_id)
        mine = (event for event in events if event.session_id in ids)
        seen = list(islice(mine, 6))
    assert [(event.session_id, event.seq) for event in seen] == [(one, 1) for one in ids] + [(one, 2) for one in ids]
    assert all(event.stream_id for event in seen)
    again = fleet.client.subscribe(after=seen[2].stream_id)
    assert list(islice((event for event in again if event.session_id in ids), 3)) == seen[3:]
    again.close()


def test_a_loop_follows_many(fleet: RunningFleet) -> None:
    async def follow(client: AsyncFleet, session_id: str) -> list[int]:
        return [event.seq async for event in client.subscribe(session_id, after_seq=0, marks=False)]

    async def go() -> list[list[int]]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            ids = [(await client.call("session.create"))["id"] for _ in range(10)]
            following = [asyncio.create_task(follow(client, one)) for one in ids]
            for one in ids:
                await client.call("session.append_output", session_id=one, content="x")
            await asyncio.gather(*(client.call("session.terminate", session_id=one) for one in ids))
            async with client.subscribe(ids[0], after_seq=2) as events:
                assert [event.event_name async for event in events] == ["session.terminated", "replay_end", "end"]
            return list(await asyncio.gather(*following))

    assert asyncio.run(go()) == [[1, 2, 3]] * 10


def test_nothing_is_left_of_it(fleet: RunningFleet) -> None:
    before = set(threading.enumerate())
    session_id = fleet.call("session.create")["id"]
    channel = f"{fleet.settings.channel_prefix}session:{session_id}"

    def listening() -> int:
        return int(fleet.cache.pubsub_numsub(channel)[0][1])

    with Fleet.connect(**urls(fleet)) as client:
        closed, dropped, _kept = (client.subscribe(session_id) for _ in range(3))
        assert listening() == 3
        closed.close()
        eventually(lambda: listening() == 2)
        del dropped
        eventually(lambda: listening() == 1)
    eventually(lambda: listening() == 0)
    assert set(threading.enumerate()) == before


def test_closing_frees_the_thread_that_waits(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    events = fleet.client.subscribe(session_id, 0)
    listener = Listener(events)
    eventually(lambda: len(listener.seen) == 2)
    events.close()
    assert marks(listener.join()) == [(1, "replay_end", None), (2, "end", "closed")]
    assert numbers(listener.seen) == [1]
    assert list(events) == []
    unread = fleet.client.subscribe(session_id, 0)
    unread.close()
    assert marks(unread) == [(0, "end", "closed")]


def test_a_cancelled_listener_ends_at_once(fleet: RunningFleet) -> None:
    async def listen(client: AsyncFleet, session_id: str | None) -> None:
        async for _ in client.subscribe(session_id, timeout=30):
            pass

    async def go() -> float:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create"))["id"]
            listening = [asyncio.create_task(listen(client, one)) for one in (session_id, None) for _ in range(20)]
            for n, task in enumerate(listening):
                await asyncio.sleep(0.0005 * n)
                task.cancel()
            started = time.monotonic()
            outcomes = await asyncio.gather(*listening, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in outcomes)
            return time.monotonic() - started

    assert asyncio.run(go()) < 15


def test_a_reader_with_a_time_limit_of_its_own_goes_on(fleet: RunningFleet) -> None:
    """D-15: a cancelled step loses nothing and ends nothing, also the first one."""

    async def go() -> tuple[list[int], int]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create", status="active"))["id"]
            events = client.subscribe(session_id, 0, marks=False)
            seen: list[int] = []
            cancelled, limit = 0, 0.0
            while len(seen) < 42:
                try:
                    seen.append((await asyncio.wait_for(anext(events), limit)).seq)
                    limit = 0.0
                except TimeoutError:
                    cancelled += 1
                    limit += 0.001
                if cancelled % 5 == 1:
                    await client.send("session.append_output", session_id=session_id, content="more\n")
            await events.aclose()
            return seen, cancelled

    seen, cancelled = asyncio.run(asyncio.wait_for(go(), 60))
    assert seen == list(range(1, 43))
    assert cancelled >= 5


def test_only_what_was_waited_for_counts_as_silence(fleet: RunningFleet) -> None:
    """Over several steps that were cancelled; what the reader did in between does not."""

    async def go() -> tuple[str | None, float]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create"))["id"]
            async with client.subscribe(session_id, timeout=3) as events:
                assert (await anext(events)).is_replay_end
                for _ in range(2):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(events), 1)
                    await asyncio.sleep(1)
                asked_at = time.monotonic()
                end = await asyncio.wait_for(anext(events), 20)
                return end.reason, time.monotonic() - asked_at

    reason, waited = asyncio.run(go())
    assert reason == "timeout"
    assert 0.3 < waited < 2.5


class Interrupted(Exception):
    """What a signal's handler raises."""


def test_an_interrupted_reader_goes_on(fleet: RunningFleet) -> None:
    """D-15: what came at that very moment is not lost with the step that was interrupted, nor handed out twice."""
    session_id = fleet.call("session.create", status="active")["id"]
    seen: list[int] = []
    interrupted = 0

    def ring(_: int, frame: FrameType | None) -> None:
        """Only while it waits: between two lines of this test an event would be lost in any case."""
        while frame is not None and frame.f_code is not Future.result.__code__:
            frame = frame.f_back
        if frame is not None:
            raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    with fleet.client.subscribe(session_id, 0, marks=False) as events:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            while len(seen) < 102:
                try:
                    seen.append(next(events).seq)
                except Interrupted:
                    interrupted += 1
                    fleet.client.send("session.append_output", session_id=session_id, content="more\n")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert seen == list(range(1, 103))
    assert interrupted >= 5


def test_an_end_from_elsewhere_is_an_end(fleet: RunningFleet) -> None:
    async def go() -> list[int]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create"))["id"]
            events = client.subscribe(session_id, 0)
            seen: list[int] = []
            last: list[Event] = []
            heard = asyncio.Event()

            async def listen() -> None:
                async for event in events:
                    seen.append(event.seq)
                    last.append(event)
                    heard.set()

            listening = asyncio.create_task(listen())
            await heard.wait()
            await events.aclose()
            await asyncio.wait_for(listening, 20)
            await events.aclose()
            assert last[-1].reason == "closed"
            return seen

    assert asyncio.run(go())[0] == 1


def test_a_dropped_subscription_ends_by_itself(fleet: RunningFleet) -> None:
    async def go() -> None:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create"))["id"]
            channel = f"{fleet.settings.channel_prefix}session:{session_id}"
            async for event in client.subscribe(session_id, ping=0.05, marks=False):
                assert event.is_ping
                break
            for _ in range(1000):
                if fleet.cache.pubsub_numsub(channel) == [(channel, 0)]:
                    break
                await asyncio.sleep(0.05)
            assert fleet.cache.pubsub_numsub(channel) == [(channel, 0)]

    asyncio.run(go())


def test_closing_never_hangs(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    for n in range(40):
        events = fleet.client.subscribe(session_id if n % 2 else None, timeout=30)
        listener = Listener(events)
        time.sleep(0.0002 * n)
        started = time.monotonic()
        events.close()
        listener.join(15)
        assert time.monotonic() - started < 15
