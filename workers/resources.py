"""Pools and clients of one process, built from the settings."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

from jsonschema.exceptions import SchemaError
from psycopg2 import Error
from redis import Redis
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

from broker.quarantine import QuarantineList
from fanout.cache import DocumentCache
from fanout.connection import HASTY, PATIENT, connect
from fanout.keys import Keys
from fanout.publish import Publisher
from history.roles import assume_app_role
from sessionfleet.jsontext import decode
from sessions.document import SHOWN
from sessions.policy import Policy
from sessions.shapes import Schemas, compile_schemas
from tasks.runtime import Runtime, Send
from workers.celery_config import PRIORITY_STEPS
from workers.delivery import Answers, Delivery
from workers.settings import Settings, SettingsError

STATEMENT_TIMEOUT_MS = 30_000
IDLE_SECONDS = 1.0
"""Without use after which a pooled connection is asked whether it lives."""

IDLE_IN_TRANSACTION_MS = 10_000
"""A writer that stops in mid-transaction holds the relay's horizon back, so it is cut off soon."""


def build_engine(settings: Settings, *, owner: bool = False, name: str = "fleet") -> Engine:
    """A pool on the fleet's database: UTC, bounded statements, connections checked before use.

    In the application role unless ``owner`` (DDL of partition upkeep needs the login's own rights).
    """
    timeouts = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={STATEMENT_TIMEOUT_MS}"
    options = (
        f"-c timezone=UTC -c search_path={settings.database_schema} {timeouts} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
    )
    # Prepared statements are planned once: to plan one over months of partitions takes longer than to run it.
    # They read few rows each, mostly from memory: by the default of 4 a table of a thousand sessions is read whole.
    options += " -c plan_cache_mode=force_generic_plan -c random_page_cost=1.1"
    engine = create_engine(
        settings.database_url,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        pool_recycle=settings.pool_recycle,
        json_deserializer=decode,
        connect_args={
            "options": options,
            "connect_timeout": 3,
            "application_name": name,
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    if not owner:
        assume_app_role(engine)
    _let_lost_ones_go(engine)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _check_idle)
    return engine


def _let_lost_ones_go(engine: Engine) -> None:
    """A connection with an isolation level of its own gets the default back on its return to the pool. When it was
    lost meanwhile, SQLAlchemy lets the driver's own error out there, after the work was done or its error was raised:
    close it instead, :func:`_check_idle` has the pool make another."""
    reset = engine.dialect.reset_isolation_level

    def reset_or_close(connection: Any) -> None:
        try:
            reset(connection)
        except Error:
            connection.close()

    engine.dialect.reset_isolation_level = reset_or_close  # type: ignore[assignment, method-assign]


def _note_use(_: Any, record: Any) -> None:
    record.info["used_at"] = monotonic()


def _check_idle(connection: Any, record: Any, _: Any) -> None:
    """Ask a connection that was idle for IDLE_SECONDS whether it lives, as ``pool_pre_ping`` does each time:
    a round trip of four in a busy worker. One that dies sooner fails its transaction, which runs again."""
    if connection.closed:
        raise DisconnectionError("the connection was lost")
    if monotonic() - record.info.get("used_at", monotonic()) < IDLE_SECONDS:
        return
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
        connection.rollback()
    except Error as error:
        raise DisconnectionError from error


def build_policy(settings: Settings) -> Policy:
    """The domain's view of the settings; the lower bound of timeouts is that of the environment."""
    same = {name: getattr(settings, name) for name in Policy.__slots__ if hasattr(settings, name)}
    own = {
        "min_timeout_seconds": 1 if settings.environment == "test" else 60,
        "context_schemas": read_schemas(settings.context_schemas),
    }
    return Policy(**{**same, **own})


def read_schemas(path: str) -> Schemas:
    """The schemas of the file ``context_schemas`` names; raises SettingsError for one that has none."""
    if not path:
        return {}
    try:
        return compile_schemas(json.loads(Path(path).read_text()))
    except (OSError, ValueError, AttributeError, SchemaError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            message=f"FLEET_CONTEXT_SCHEMAS={path} is not a file of JSON Schemas by session type ({reason}): "
            "correct the file or unset the variable.",
            setting="FLEET_CONTEXT_SCHEMAS",
        ) from None


def build_runtime(settings: Settings, send: Send, answer: Answers) -> Runtime:
    """Everything the tasks of one process work with; connects at first use."""
    client = connect(
        settings.cache_url,
        name="fleet-worker",
        timeout=HASTY,
        retry_delay=settings.redis_retry_delay_ms / 1000,
        max_connections=settings.redis_max_connections,
    )
    cache = DocumentCache(client, settings.cache_ttl, fields=SHOWN)
    return Runtime(
        engine=build_engine(settings),
        owner_engine=build_engine(settings, owner=True),
        cache=cache,
        policy=build_policy(settings),
        send=send,
        answer=Delivery(answer, cache, cache_url=settings.cache_url, result_url=settings.result_url),
        database_schema=settings.database_schema,
        partitions_ahead=settings.partitions_ahead,
        audit_retention_months=settings.audit_retention_months,
        misfire_grace=settings.misfire_grace,
        dispatch_due_interval=settings.dispatch_due_interval,
        owner_parallelism=settings.owner_parallelism,
        ledger_retention_days=settings.ledger_retention_days,
        extras={
            "publisher": Publisher(client, Keys(settings.channel_prefix, settings.global_channel)),
            "quarantine": QuarantineList(broker_client(settings), steps=PRIORITY_STEPS),
        },
    )


def broker_client(settings: Settings) -> Redis:
    """The queues themselves, for the few who look at them past Celery; a command is sent once."""
    return connect(settings.broker_url, name="fleet-queues", timeout=PATIENT, retries=0)
