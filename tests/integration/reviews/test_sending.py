"""What a tick sends, and what becomes of it when the broker does not take it (H-06, H-07)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from sqlalchemy import text

from reviews import commands
from reviews.store import schedules
from sessionfleet.messages import CreateSchedule
from sessions.queries import clock
from tasks import schedule_dispatch
from tasks.runtime import Outgoing
from tests.support.servers import Servers, private_valkey
from workers.app import FleetApp, create_app
from workers.embedded import EmbeddedValkey
from workers.migrate import migrate
from workers.sending import Sender
from workers.settings import Settings

GRACE = timedelta(seconds=300)
SLOTS = 450
"""More than one transaction settles."""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedValkey]:
    """A broker nobody else uses: its messages stay."""
    with private_valkey() as valkey:
        yield valkey


@pytest.fixture
def app(servers: Servers, broker: EmbeddedValkey) -> Iterator[FleetApp]:
    """An app on a database of its own; nobody takes its messages."""
    settings = Settings.load({}, database_url=servers.migrated_database(), redis_url=f"{broker.url}/0")
    migrate(settings)
    yield create_app(settings)
    with broker.client(0) as client:
        client.flushall()


def messages(app: FleetApp, queue: str = "reviews") -> list[dict[str, Any]]:
    """Headers of what waits in the queue, oldest first of each priority."""
    with redis.Redis.from_url(app.settings.broker_url, decode_responses=True) as client:
        lists = [f"{queue}\x06\x16{step}" if step else queue for step in (0, 3, 6, 9)]
        return [json.loads(raw)["headers"] for name in lists for raw in reversed(client.lrange(name, 0, -1))]


def due(app: FleetApp, count: int) -> None:
    """Schedules whose next slot has come."""
    with app.runtime.engine.begin() as db:
        now = clock(db)
        owner = f"owner-{uuid4().hex[:8]}"
        message = CreateSchedule(schedule_type="interval", owner_id=owner, interval_minutes=60)
        ids = [str(commands.create(db, message, now)["schedule_id"]) for _ in range(count)]
        schedules.move(db, [schedules.Move(one, now - timedelta(seconds=1)) for one in ids])


def ledger(app: FleetApp) -> Any:
    with app.runtime.engine.connect() as db:
        found = "SELECT execution_id, status, publish_at > clock_timestamp() AS later FROM schedule_executions"
        return db.execute(text(found)).all()


def test_many_messages_arrive_once_each_in_order_with_priority_and_start(app: FleetApp) -> None:
    start = datetime(2099, 1, 1, tzinfo=UTC)
    given = [Outgoing("schedule.run_review", {"execution_id": f"e{n}"}, "low", start) for n in range(600)]
    Sender(app).many([*given, Outgoing("schedule.run_review", {"execution_id": "first"}, "critical")])
    found = messages(app)
    assert [one["kwargsrepr"] for one in found] == [
        repr({"execution_id": name}) for name in ("first", *(f"e{n}" for n in range(600)))
    ]
    assert [one["eta"] for one in found] == [None, *[start.isoformat()] * 600]


def test_a_pipeline_that_breaks_is_sent_again(app: FleetApp) -> None:
    """The pool's connections are dead when they are used: stale ones, after a restart of Redis."""
    sender = Sender(app)
    sender.many([Outgoing("schedule.run_review", {"execution_id": "before"})] * 2)
    with redis.Redis.from_url(app.settings.broker_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    sender.many([Outgoing("schedule.run_review", {"execution_id": f"e{n}"}) for n in range(50)])
    arrived = Counter(one["kwargsrepr"] for one in messages(app))
    assert {repr({"execution_id": f"e{n}"}) for n in range(50)} <= set(arrived)
    assert max(arrived.values()) <= 2


def test_a_tick_sends_each_run_it_settles_once(app: FleetApp) -> None:
    due(app, SLOTS)
    assert schedule_dispatch.dispatch(app.runtime, GRACE)["published"] == SLOTS
    assert schedule_dispatch.dispatch(app.runtime, GRACE)["published"] == 0
    sent = Counter(one["kwargsrepr"] for one in messages(app))
    assert sent == {repr({"execution_id": row.execution_id}): 1 for row in ledger(app)}
    assert len(sent) == SLOTS


def test_without_a_broker_every_slot_is_settled_and_its_run_sent_later(app: FleetApp) -> None:
    """The tick fails, its work stays; what was not sent is due again after RESEND."""
    due(app, SLOTS)
    away = create_app(app.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
        schedule_dispatch.dispatch(away.runtime, GRACE)
    assert Counter((row.status, row.later) for row in ledger(app)) == {("queued", True): SLOTS}
    with app.runtime.engine.begin() as db:
        db.execute(text("UPDATE schedule_executions SET publish_at = clock_timestamp()"))
    app.set_current()
    assert schedule_dispatch.dispatch(app.runtime, GRACE)["published"] == SLOTS
    assert len({one["kwargsrepr"] for one in messages(app)}) == SLOTS
