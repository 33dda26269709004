"""SIGKILL of session workers under full load; then PostgreSQL alone says what became of every update."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, closing
from typing import Any

from celery import Celery
from celery.app.control import Control

from benchmarks.bench import figures
from benchmarks.bench.bare import connected
from benchmarks.bench.figures import Figure, percentile
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads

CLIENTS, OUTSTANDING = 8, 32
PAUSE = 1.0
"""Seconds of undisturbed load after each worker is back."""

READY_SECONDS = 60.0

Answered = tuple[str, str, float]
"""Key, session id, seconds."""

_EFFECTS = """
    SELECT change ->> 'value', session_id::text, count(*) FROM session_events
    CROSS JOIN jsonb_array_elements(metadata -> 'patch') AS change
    WHERE event_name = 'session.updated' AND change ->> 'path' = '/context/mark' GROUP BY 1, 2
"""
_KEYS = "SELECT key FROM idempotency_keys WHERE operation = 'session.update'"
_AGREE = """
    SELECT count(*) FILTER (WHERE s.last_seq <> e.events), count(*) FILTER (WHERE s.last_seq <> e.last),
        count(*) FILTER (WHERE s.state_version - 1 <> e.updates), count(*) FILTER (WHERE a.rows <> e.events)
    FROM sessions s
    JOIN LATERAL (
        SELECT count(*) AS events, max(seq) AS last, count(*) FILTER (WHERE event_name = 'session.updated') AS updates
        FROM session_events WHERE session_id = s.id
    ) e ON true
    JOIN LATERAL (SELECT count(*) AS rows FROM audit_events WHERE session_id = s.id) a ON true
"""


def kills(count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``{machine, figures, lost: [key], doubled: [key]}``. The update of a caller that gave up may or may not have
    happened: it counts as doubled when it happened twice, never as lost."""
    before = figures.load()
    with Ground() as ground, ExitStack() as stack:
        say("starting servers and workers")
        ground.start()
        loads = stack.enter_context(closing(Loads(ground.environ, CLIENTS)))
        stop = ground.home / "stop"
        job = {"how": "kept", "redis_url": ground.redis_url, "ids": ground.ids, "outstanding": OUTSTANDING}
        job |= {"stop": str(stop)}
        control = Celery("bench", broker=ground.redis_url, set_as_current=False).control
        back: list[float] = []

        def meanwhile() -> None:
            try:
                for number in range(count):
                    time.sleep(PAUSE)
                    back.append(_kill(ground, control, number))
                    say(f"kill {number + 1} of {count}: the next worker was up after {back[-1]:.1f} s")
                time.sleep(PAUSE)
            finally:
                stop.touch()

        answers = loads.jobs([job | {"process": number} for number in range(CLIENTS)], meanwhile)
        say("looking at what became of them")
        with connected(ground.postgres.url) as database, database.cursor() as run:
            run.execute(_EFFECTS)
            effects = run.fetchall()
            run.execute(_KEYS)
            stored = {row[0] for row in run.fetchall()}
            run.execute(_AGREE)
            disagree = sum(run.fetchone())  # type: ignore[arg-type]
        database.close()
    answered: list[Answered] = [tuple(one) for answer in answers for one in answer["answered"]]
    unknown = [key for answer in answers for key in answer["unknown"]]
    refused = [one for answer in answers for one in answer["refused"]]
    lost, doubled = judge(answered, effects, stored)
    times = sorted(took * 1e3 for _, _, took in answered)
    return figures.found(
        [
            Figure("kills", len(back)),
            Figure("updates answered", len(answered)),
            Figure("a second, kills included", len(answered) / max(answer["took"] for answer in answers)),
            Figure("of them lost", len(lost), most=0),
            Figure("doubled", len(doubled), most=0),
            Figure("sessions whose versions, events and audit rows disagree", disagree, most=0),
            Figure("refused", len(refused), most=0),
            Figure("given up on", len(unknown)),
            Figure("calls that had to be repeated", sum(answer["repeats"] for answer in answers)),
            Figure("p50, repeats included", percentile(times, 0.5), "ms"),
            Figure("p99, repeats included", percentile(times, 0.99), "ms"),
            Figure("slowest", times[-1] if times else 0.0, "ms"),
        ],
        before,
        measurement="kills",
        lost=lost[:100],
        doubled=doubled[:100],
        refused=refused[:10],
    )


def judge(
    answered: Sequence[Answered], effects: Iterable[tuple[str, str, int]], stored: Collection[str]
) -> tuple[list[str], list[str]]:
    """Keys of updates that are lost: without an event in their session or without a stored answer; and of those
    that are doubled: with two events, in one session or in two. ``effects``: mark, session id, events."""
    places: dict[str, list[str]] = {}
    for mark, session_id, times in effects:
        places.setdefault(mark, []).extend([session_id] * times)
    lost = [key for key, session_id, _ in answered if session_id not in places.get(key, ()) or key not in stored]
    return lost, [mark for mark, found in places.items() if len(found) > 1]


def _kill(ground: Ground, control: Control, number: int) -> float:
    """Kills one worker and its children at once, the two in turn, and starts it again; seconds until it answers
    Celery's ping, which it does between two messages."""
    victims = [one for one in ground.workers if one.name.startswith("sessions")]
    victim = victims[number % len(victims)]
    victim.kill_group(signal.SIGKILL)
    victim.wait(10)
    started = time.monotonic()
    victim.start()
    node = f"{victim.name}@{socket.gethostname()}"
    while not control.ping(destination=[node], timeout=1.0, limit=1):
        if not victim.running or time.monotonic() - started > READY_SECONDS:
            raise RuntimeError(f"{victim.name} does not come back: {victim.log_text()}")
    return time.monotonic() - started
