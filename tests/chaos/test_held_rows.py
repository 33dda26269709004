"""A row that another transaction holds for long keeps only its own messages waiting (rows A-08, A-12, B-13, E-19).

One worker, so whoever is answered while the row is held was not kept waiting by it. It takes messages in their order:
an answer to a neighbour says that what was sent before has been looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from broker.waiting import LONGEST
from sessionfleet import Handle
from sessionfleet.errors import Unavailable
from tests.chaos.kills import kill
from tests.support import RunningFleet
from tests.support.asking import Call, Document, codes, new, plain_producer
from tests.support.batching import outcomes
from tests.support.crowd import hold

MANY = 200
"""More than the worker's prefetch limit of 64."""


@pytest.fixture
def producer(single: RunningFleet) -> Iterator[Celery]:
    with plain_producer(single) as app:
        yield app


def line(session: Document, number: int) -> tuple[str, Document]:
    return "session.append_output", {"session_id": session["id"], "content": f"{number}\n"}


def send(fleet: RunningFleet, session: Document, number: int, **more: Any) -> Handle:
    name, arguments = line(session, number)
    return fleet.client.submit(name, **arguments, **more)


def output(fleet: RunningFleet, session: Document) -> list[int]:
    return [int(each) for each in fleet.call("session.read_output", session_id=session["id"])["output"].split()]


def test_neighbours_are_answered_and_its_own_follow_in_order(single: RunningFleet) -> None:
    """A-08, B-13: whatever number of them waits, and by which name it is called; each has one effect."""
    blocked, free = new(single, external_id=f"held-{uuid4()}"), new(single)
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        handles = single.client.submit_many([line(blocked, number) for number in range(MANY)])
        for number in range(20):
            single.call("session.append_output", session_id=free["id"], content=f"{number}\n")
            handles.append(send(single, {"id": blocked["external_id"]}, MANY + number))
        assert not any(handle.done() for handle in handles)
    answers = outcomes(handles)
    assert codes(answers) == ["ok"] * len(handles)
    assert [answer["chunk_no"] for answer in answers] == list(range(1, MANY + 21))
    assert output(single, blocked) == list(range(MANY + 20))
    assert output(single, free) == list(range(20))


def test_what_shares_a_session_with_one_that_waits_waits_behind_it(single: RunningFleet) -> None:
    """A-19: through a batch even one on another session; a third one is free."""
    blocked, with_it, free = (new(single) for _ in range(3))
    steps = [{"name": line(one, 1)[0], "arguments": line(one, 1)[1]} for one in (blocked, with_it)]
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        handles = [send(single, blocked, 0)]
        single.call("session.touch", session_id=free["id"])
        apply: Call = ("session.apply", {"operations": steps, "whole": "batch"})
        handles += single.client.submit_many([apply, line(with_it, 2), line(blocked, 2)])
        single.call("session.touch", session_id=free["id"])
        assert not any(handle.done() for handle in handles)
    assert codes(outcomes(handles)) == ["ok"] * 4
    assert (output(single, blocked), output(single, with_it)) == ([0, 1, 2], [1, 2])


def test_who_waits_too_long_is_told_so_and_who_waits_for_nothing_is_not(
    single: RunningFleet, producer: Celery
) -> None:
    """A-12, E-19: Unavailable after 30 seconds, without any effect; a write nobody waits for happens when it can."""
    blocked, free = new(single), new(single)
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        name, kwargs = line(blocked, 1)
        producer.send_task(name, kwargs=kwargs, queue="sessions", ignore_result=True)
        handle = send(single, blocked, 2)
        with pytest.raises(Unavailable, match="holds the row") as refused:
            handle.result(LONGEST + 20)
        assert refused.value.retryable
        single.call("session.touch", session_id=free["id"])
        again = send(single, blocked, 2, idempotency_key=handle.idempotency_key)
    assert again.result(30)["chunk_no"] == 2
    assert output(single, blocked) == [1, 2]


def test_one_that_celery_runs_keeps_its_worker_five_seconds(single: RunningFleet, producer: Celery) -> None:
    """A-12: one with limits of its own, say; it is told the same."""
    blocked = new(single)
    name, kwargs = line(blocked, 0)
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        limited = producer.send_task(name, kwargs=kwargs, queue="sessions", time_limit=60, soft_time_limit=50)
        with pytest.raises(Exception, match="holds the row"):
            limited.get(timeout=25)
    assert output(single, blocked) == []


def test_a_revoked_one_is_not_run(single: RunningFleet, producer: Celery) -> None:
    """P-11: also when it was revoked while it was waiting."""
    blocked, free = new(single), new(single)
    name, kwargs = line(blocked, 0)
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        waits = producer.send_task(name, kwargs=kwargs, queue="sessions")
        single.call("session.touch", session_id=free["id"])
        producer.control.revoke(waits.id)
        with pytest.raises(TaskRevokedError):
            waits.get(timeout=30)
    single.call("session.touch", session_id=blocked["id"])
    assert output(single, blocked) == []


def _stop(process: Any) -> None:
    process.stop()


@pytest.mark.parametrize("end", [_stop, kill])
def test_its_messages_outlive_the_worker(single: RunningFleet, end: Callable[[Any], None]) -> None:
    """B-13, P-11: they go back to their queue and have one effect each."""
    blocked, free = new(single), new(single)
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        handles = [send(single, blocked, number) for number in range(5)]
        single.call("session.touch", session_id=free["id"])
        [worker] = single.of("sessions")
        end(worker)
    single.start("sessions")
    answers = outcomes(handles)
    assert codes(answers) == ["ok"] * 5
    assert output(single, blocked) == list(range(5))
