"""A task that ends its process, or never ends, takes no worker with it and is tried so often only (row P-11)."""

from __future__ import annotations

import signal

from broker.quarantine import Entry
from tests.support import eventually
from tests.support.brokers import BrokerBench
from workers.processes import ManagedProcess

BOUNDED = {"task_retry_on_worker_lost": True, "task_reject_on_worker_lost": True}


def started(bench: BrokerBench, how: str) -> int:
    return int(bench.notes.hget("started", how) or 0)


def lives(bench: BrokerBench, worker: ManagedProcess) -> None:
    bench.app().send_task("note", ["afterwards"])
    eventually(lambda: "afterwards" in bench.done())
    assert worker.running, worker.log_text()


def test_a_child_that_dies(bench: BrokerBench) -> None:
    """exit, os._exit, segmentation fault: three retries, then quarantine with the message; MemoryError and
    recursion: an error at once; the worker and the other tasks go on [T2, T3]."""
    worker = bench.worker("--pool", "prefork", "-c", "4", **BOUNDED)
    app = bench.app()
    for how in ("exit", "os._exit", "segfault", "memory", "recursion"):
        app.send_task("end", [how])
    lives(bench, worker)
    eventually(lambda: len(bench.quarantine()) == 3, 60)
    eventually(bench.settled)
    assert {how: started(bench, how) for how in ("exit", "os._exit", "segfault")} == {
        "exit": 4,
        "os._exit": 4,
        "segfault": 4,
    }
    assert {how: started(bench, how) for how in ("memory", "recursion")} == {"memory": 1, "recursion": 1}
    for line in bench.quarantine():
        entry = Entry.loads(line)
        assert (entry.reason, entry.deliveries) == ("the process that ran it died, 4 times", 4)
        assert b'"task": "end"' in entry.raw
    lives(bench, worker)


def test_contained_in_the_workers_own_process(bench: BrokerBench) -> None:
    """sys.exit, MemoryError and recursion in a solo worker end the task with an error, once [T3]."""
    worker = bench.worker()
    app = bench.app()
    for how in ("exit", "memory", "recursion"):
        app.send_task("contained_end", [how])
    lives(bench, worker)
    eventually(bench.settled)
    assert [started(bench, how) for how in ("exit", "memory", "recursion")] == [1, 1, 1]
    assert worker.log_text().count("raised unexpected: RuntimeError") == 2
    assert bench.quarantine() == []


def test_endless_loops_in_the_workers_own_process(bench: BrokerBench) -> None:
    """The soft limit ends a loop that heeds it, the hard one a loop that does not, each with its error.

    The limits are the messages' own: on a busy machine one of a second would also end the task that shows that the
    worker lives, and a hard one a second behind it the loop that heeds the soft one.
    """
    worker = bench.worker()
    app = bench.app()
    app.send_task("end", ["loop"], soft_time_limit=1, time_limit=60)
    app.send_task("end", ["stubborn loop"], soft_time_limit=1, time_limit=2)
    lives(bench, worker)
    eventually(bench.settled)
    text = worker.log_text()
    assert "SoftTimeLimitExceeded(1" in text
    assert "Hard time limit (2" in text


def test_a_worker_that_cannot_be_stopped_ends_itself(bench: BrokerBench) -> None:
    """A loop past everything costs its process; the message comes back with one death more, as does one whose
    process died of a segmentation fault."""
    for how in ("endless loop", "segfault"):
        bench.clear()
        worker = bench.worker(task_soft_time_limit=1, task_time_limit=2)
        bench.app().send_task("end", [how])
        assert worker.wait(30) in (-signal.SIGKILL, -signal.SIGSEGV)
        [note] = bench.broker.hvals("unacked")
        assert b"x_deaths" not in note
        bench.worker(kind="safe", broker_transport_options={"dead_after": 2})
        eventually(lambda: any(b'"x_deaths": 1' in note for note in bench.broker.hvals("unacked")))


def test_a_neighbour_pays_nothing(bench: BrokerBench) -> None:
    """What was fetched together with a deadly message comes back at once and runs."""
    first = bench.worker(worker_prefetch_multiplier=8, wait=False)
    app = bench.app()
    app.send_task("end", ["segfault"])
    for number in range(7):
        app.send_task("note", [number])
    first.wait(60)
    assert bench.broker.hlen("unacked") >= 2
    bench.worker("--pool", "prefork", "-c", "2", broker_transport_options={"dead_after": 2}, **BOUNDED)
    eventually(lambda: len(bench.done()) == 7)
