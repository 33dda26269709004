"""Every setting of the fleet with its default, its bounds, its meaning and its source row.

Reading, precedence and derivation are in :mod:`workers.settings`; the reference page
``docs/configuration.md`` is generated from this class.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from workers.settings_kinds import choice, count, duration, durations, host, switch, text, url

Environment = Literal["development", "test", "staging", "production"]
ENVIRONMENTS: tuple[Environment, ...] = ("development", "test", "staging", "production")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("auto", "json", "text")
_POSTGRES = ("postgresql+psycopg2", "postgresql", "postgres")
_REDIS = ("redis", "rediss")
_BEAT = 86_400


class Group(BaseModel):
    """A group of settings; the first line of its docstring is its heading in the reference page."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Servers(Group):
    """Where the servers are"""

    environment: Environment = choice(
        "development", "P-05", "Chooses the preset; `test` lets every duration go down to 1.", *ENVIRONMENTS
    )

    database_url: str = url(
        "postgresql+psycopg2://localhost:5432/sessionfleet",
        "P-02",
        "PostgreSQL 15 or newer, the truth. A plain `postgresql://` or `postgres://` is rewritten.",
        *_POSTGRES,
    )
    database_schema: str = text("public", "J-04", "Schema that holds the fleet's tables.")
    redis_url: str = url(
        "",
        "P-02",
        "Redis 6.2+ or Valkey 8+; beats redis_host, redis_port and redis_password. Its database "
        "number N (redis_db where it has none) gives broker N, cache N+1, beat N+2, results N+3, modulo 16.",
        *_REDIS,
    )
    redis_host: str = host("localhost", "P-02", "Used when redis_url is not set.")
    redis_port: int = count(6379, "P-02", "Used when redis_url is not set.", high=65535)
    redis_db: int = count(0, "P-02", "First of the four database numbers.", low=0, high=15)
    redis_password: str = text("", "P-02", "Used when redis_url is not set.", secret=True)
    broker_url: str = url("", "P-02", "Queues; derived from redis_url when not set.", *_REDIS)
    cache_url: str = url("", "P-02", "Documents, Streams, pub/sub; derived when not set.", *_REDIS)
    beat_url: str = url("", "P-02", "RedBeat's entries and lock; derived when not set.", *_REDIS)
    result_url: str = url("", "P-02", "Celery results; derived when not set.", *_REDIS)


class Connections(Group):
    """Connections"""

    redis_retries: int = count(3, "P-02", "Tries of one Redis command after a lost connection.")
    redis_retry_delay_ms: int = duration(
        100, "P-02", "First wait between those tries, doubled each time.", unit="milliseconds"
    )
    lazy_connect: bool = switch(False, "P-02", "Start without asking the servers whether they answer.")
    redis_max_connections: int = count(50, "P-02", "Connections to the cache per process, at most.")
    pool_size: int = count(20, "P-02", "PostgreSQL connections a process keeps open, at most.")
    max_overflow: int = count(40, "P-02", "PostgreSQL connections beyond pool_size, for a short time.")
    pool_timeout: int = duration(30, "P-02", "Wait for a free PostgreSQL connection.")
    pool_recycle: int = duration(3600, "P-02", "Age at which a PostgreSQL connection is replaced.")


class Sessions(Group):
    """Sessions"""

    session_timeout_seconds: int = duration(
        1800, "E-01", "Idle time after which a session expires, unless it has its own.", low=60
    )
    max_lifetime_seconds: int = duration(
        0,
        "E-08",
        "Age that ends a session whatever its activity; 0 is off.",
        low=60,
        high=2_592_000,
        off=True,
    )
    paused_timeout_seconds: int = duration(
        86_400, "E-09", "Idle time after which a paused session expires.", low=60, high=2_592_000
    )
    recovery_window_seconds: int = duration(
        604_800,
        "E-09",
        "How long an interrupted or crashed session can be recovered.",
        low=60,
        high=31_536_000,
    )
    warn_before: tuple[int, ...] = durations(
        (300,), "E-04", "Warn when this much time is left, one warning for each."
    )
    max_context_bytes: int = count(1_048_576, "B-08", "Largest context.", low=1024, high=16_777_216, unit="bytes")
    max_metadata_bytes: int = count(
        65_536, "B-08", "Largest metadata, runtime_metadata or metrics.", low=256, high=1_048_576, unit="bytes"
    )
    output_buffer_lines: int = count(
        1000, "C-03", "Lines of output kept for one session; the oldest chunks go first.", low=10
    )
    output_max_bytes: int = count(
        10_485_760, "C-03", "Output kept for one session.", low=65_536, high=1_073_741_824, unit="bytes"
    )
    max_events_per_session: int = count(
        1000, "D-16", "Events kept in a session's Redis Stream; PostgreSQL keeps all.", low=10, high=100_000
    )
    event_limit_policy: str = choice(
        "window",
        "D-16",
        "Beyond a session's max_events: `window` drops the oldest entry of its Stream, `reject` refuses "
        "session.emit_event with EVENT_LIMIT.",
        "window",
        "reject",
    )
    strict_session_types: bool = switch(False, "A-15", "Refuse session types that are not known.")
    check_agents: bool = switch(False, "A-16", "Refuse agents that are not registered.")
    context_schemas: str = text(
        "", "B-09", "JSON file {session type: JSON Schema} that contexts must fit; empty: any object is taken."
    )
    idempotency_ttl: int = duration(86_400, "B-13", "How long the answer of a write can be repeated.")
    cache_ttl: int = duration(86_400, "B-10", "Life of a document in the cache, nothing else.", low=60)


class FanOut(Group):
    """Fan-out"""

    channel_prefix: str = text("", "D-07", "Put before the name of every channel and Stream.")
    global_channel: str = text("global:sessions", "P-03", "Channel of sessions created and ended.")


class Time(Group):
    """Time"""

    timeout_warnings_interval: int = duration(60, "P-10", "Beat: warn of timeouts.", high=_BEAT)
    cleanup_stale_interval: int = duration(300, "P-10", "Beat: expire overdue sessions.", high=_BEAT)
    dispatch_due_interval: int = duration(1, "P-10", "Beat: start due scheduled reviews.", high=_BEAT)
    drain_outbox_interval: int = duration(1, "P-10", "Beat: sweep events the relay left.", high=_BEAT)
    drain_quarantine_interval: int = duration(5, "P-10", "Beat: keep the messages workers put away.", high=_BEAT)
    scan_schedules_interval: int = duration(
        300, "P-10", "Beat: find and repair schedules nobody looked after.", high=_BEAT
    )
    partition_maintain_interval: int = duration(3600, "P-10", "Beat: create and detach partitions.", high=_BEAT)
    index_contexts_interval: int = duration(60, "Q-06", "Beat: bring the index of contexts up to date.", high=_BEAT)
    sum_counts_interval: int = duration(60, "Q-03", "Beat: sum up how many sessions there are.", high=_BEAT)
    purge_old_interval: int = duration(
        86_400, "P-10", "Beat: remove stored answers and tombstones past their life.", high=_BEAT
    )
    beat_max_loop_interval: int = duration(5, "H-20", "Longest sleep of beat, and of a beat that stands by.")
    redbeat_lock_timeout: int = duration(
        30, "H-20", "Life of beat's lock, after which another beat takes over; above beat_max_loop_interval."
    )
    misfire_grace: int = duration(300, "H-07", "How late a scheduled run may still start.", low=0, high=_BEAT)
    owner_parallelism: int = count(
        1, "H-16", "Scheduled runs of one owner under way at a time; the others wait in order.", high=100
    )
    ledger_retention_days: int = count(
        90, "H-13", "How long slots stay in the history of their schedule.", high=3650, unit="days"
    )
    partitions_ahead: int = count(
        3, "J-01", "Months that have a partition before they begin.", high=24, unit="months"
    )
    audit_retention_months: int = count(6, "J-04", "Months of audit kept attached.", high=120, unit="months")


class Workers(Group):
    """Workers"""

    submit_timeout: int = duration(5, "B-12", "A caller waits this long for the broker to take a message.")
    task_time_limit: int = duration(300, "P-11", "A task that runs longer is stopped; below visibility_timeout.")
    visibility_timeout: int = duration(360, "P-11", "A dead worker's messages are delivered again after this.")
    shutdown_grace: int = duration(30, "O-02", "A stopping worker lets tasks run this long.", high=3600)
    http_port: int = count(9808, "P-03", "Port of health and metrics.", high=65535, later="N-02")
    export_dir: str = text(".fleet/exports", "P-03", "Folder of exports.", later="I-09")
    log_level: str = choice("INFO", "I-13", "Lowest level that is written.", *LOG_LEVELS)
    log_format: str = choice(
        "auto", "I-13", "`auto` is `text` when stderr is a terminal and `json` otherwise.", *LOG_FORMATS
    )


class Flower(Group):
    """Flower"""

    flower_host: str = text("127.0.0.1", "R-08", "Address Flower listens on; behind a TLS proxy elsewhere.")
    flower_port: int = count(5555, "R-08", "Port Flower listens on.", high=65535)
    flower_user: str = text("fleet", "R-08", "User of Flower's pages and HTTP API.")
    flower_password: str = text("", "R-08", "Its password; Flower does not start without one.", secret=True)
    flower_cookie_secret: str = text(
        "", "R-08", "Signs Flower's cookies; derived from flower_password when not set.", secret=True
    )


class Later(Group):
    """Accepted and checked today, read by later releases"""

    checkpoint_interval_events: int = count(
        10, "F-03", "Events between two automatic checkpoints.", high=1000, later="F-03"
    )
    grace_seconds: int = duration(300, "G-02", "Timeout after the last agent left.", low=60, high=3600, later="G-02")
    enable_failure_snapshots: bool = switch(True, "F-13", "Keep a full snapshot of a failed session.", later="F-13")
    max_concurrent_requests: int = count(100, "E-11", "Open requests in the whole fleet.", high=100_000, later="E-11")


class Fields(Servers, Connections, Sessions, FanOut, Time, Workers, Flower, Later):
    """The declarations; see :class:`workers.settings.Settings` for how values are found."""


GROUPS: tuple[type[Group], ...] = (Servers, Connections, Sessions, FanOut, Time, Workers, Flower, Later)
