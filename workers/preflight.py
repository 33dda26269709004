"""Whether the servers that the settings name can be used, asked before anything is started (P-01).

Every refusal is one sentence that names the setting and says what to do (:class:`Unusable`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from celery import signals
from redis.exceptions import RedisError
from sqlalchemy import make_url

from fanout.connection import connect
from workers.settings import Settings, SettingsError
from workers.settings_environment import PREFIX
from workers.settings_urls import mask

OLDEST_POSTGRES = 150_000
OLDEST_REDIS = (6, 2)
TIMEOUT = 3
"""Seconds for one answer."""

ALL = ("database_url", "broker_url", "cache_url", "beat_url", "result_url")


class Unusable(SettingsError):
    """A server does not answer, refuses us or is too old; ``details.setting`` is the environment name."""

    code = "SERVER_UNUSABLE"


def check_servers(settings: Settings, *names: str) -> None:
    """Ask the servers of these URL settings (default all five) until one cannot be used: :class:`Unusable`.

    One that does not answer gets ``redis_retries`` further tries, ``redis_retry_delay_ms`` apart and
    doubling. Databases of one Redis server are asked once. With ``lazy_connect`` nothing is asked.
    """
    if settings.lazy_connect:
        return
    asked: set[str] = set()
    for name in names or ALL:
        server = urlsplit(getattr(settings, name)).netloc if name != "database_url" else name
        if server not in asked:
            asked.add(server)
            _patiently(settings, name, _ask_postgres if name == "database_url" else _ask_redis)


def connect_celery_check(settings: Settings) -> None:
    """Check when a worker or beat starts, before it opens anything; print and exit 2 when refused.

    Other commands of Celery (``inspect``, ``control``) go ahead unasked.
    """

    def check(*names: str) -> None:
        try:
            check_servers(settings, *names)
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from None

    def worker_starts(**_: Any) -> None:
        check("database_url", "broker_url", "result_url")

    def modules_imported(**_: Any) -> None:
        # Beat has no signal of its own before its scheduler connects; workers pass here too.
        if "beat" in sys.argv:
            check("broker_url", "beat_url")

    signals.celeryd_init.connect(worker_starts, weak=False)
    signals.import_modules.connect(modules_imported, weak=False)


def _patiently(settings: Settings, name: str, ask: Callable[[str], None]) -> None:
    for attempt in range(settings.redis_retries + 1):
        if attempt:
            time.sleep(settings.redis_retry_delay_ms / 1000 * 2 ** (attempt - 1))
        try:
            return ask(getattr(settings, name))
        except (psycopg2.Error, RedisError, OSError, UnicodeError) as error:
            reason = f"cannot be used ({_first_line(error)})"
        except _TooOld as error:
            raise _unusable(settings, name, str(error)) from None
    raise _unusable(settings, name, reason)


def _ask_postgres(url: str) -> None:
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    db = psycopg2.connect(dsn, connect_timeout=TIMEOUT)
    try:
        if db.server_version < OLDEST_POSTGRES:
            raise _TooOld(f"is PostgreSQL {db.server_version // 10_000} but must be 15 or newer")
    finally:
        db.close()


def _ask_redis(url: str) -> None:
    client = connect(url, name="preflight", timeout=TIMEOUT, retries=0)
    try:
        version = str(client.info("server")["redis_version"])
    finally:
        client.close()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise _TooOld(f"is Redis {version} but must be 6.2 or newer")


class _TooOld(Exception):
    pass


def _unusable(settings: Settings, name: str, fact: str) -> Unusable:
    variable = _source(settings, name)
    place = mask(getattr(settings, name))
    if variable.removeprefix(PREFIX).lower() in settings.model_fields_set:
        message = (
            f"{variable} leads to {place}, which {fact}: start that server, correct {variable}, "
            "or run `./fleet up` without it, which brings its own."
        )
    else:
        message = (
            f"{variable} is not set and so leads to {place}, which {fact}: run `./fleet up`, which brings its "
            f"own server, or set {variable}, or start a server there."
        )
    return Unusable(message=message, setting=variable)


def _source(settings: Settings, name: str) -> str:
    """The setting a person has to change: a derived URL comes from another one."""
    if name == "database_url":
        return PREFIX + "DATABASE_URL"
    given = (one for one in (name, "redis_url", "redis_host") if one in settings.model_fields_set)
    return PREFIX + next(given, "redis_url").upper()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return mask(lines[0].rstrip(".")) if lines else type(error).__name__
