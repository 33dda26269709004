"""Where values come from besides the caller: environment variables, their aliases, presets (P-04, P-05)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.settings_fields import Environment

PREFIX = "FLEET_"

LAUNCHER_ONLY = frozenset(
    {
        "FLEET_SCALE",
        "FLEET_HOME",
        "FLEET_PYTHON",
        "FLEET_PROCESS",
        "FLEET_FLOWER_URL",
    }
)
"""Variables of the ``fleet`` command, of ``fleet env`` and of the client; no setting, never unknown."""


@dataclass(frozen=True)
class Alias:
    """Another system's variable that sets one of our settings, times ``factor`` (units differ)."""

    setting: str
    factor: int = 1


ALIASES: Mapping[str, Alias] = {
    # Where two names set one setting, the one that stands first wins.
    "MORGAN_SESSION_TIMEOUT_MINUTES": Alias("session_timeout_seconds", 60),
    "MORGAN_SESSION_TIMEOUT": Alias("session_timeout_seconds", 60),
    "SESSION_DEFAULT_TIMEOUT_SECONDS": Alias("session_timeout_seconds"),
    "SESSION_DEFAULT_TTL": Alias("session_timeout_seconds"),
    "MORGAN_MAX_CONCURRENT_REQUESTS": Alias("max_concurrent_requests"),
    "MORGAN_MAX_CONCURRENT": Alias("max_concurrent_requests"),
    "REDIS_URL": Alias("redis_url"),
    "REDIS_HOST": Alias("redis_host"),
    "REDIS_PORT": Alias("redis_port"),
    "REDIS_PASSWORD": Alias("redis_password"),
    "REDIS_SESSION_DB": Alias("redis_db"),
    "REDIS_MAX_RETRIES": Alias("redis_retries"),
    "REDIS_RETRY_DELAY": Alias("redis_retry_delay_ms"),
    "REDIS_LAZY_CONNECT": Alias("lazy_connect"),
    "SESSION_CLEANUP_INTERVAL_SECONDS": Alias("cleanup_stale_interval"),
    "SESSION_MONITORING_INTERVAL_SECONDS": Alias("timeout_warnings_interval"),
    "SESSION_CHECKPOINT_INTERVAL": Alias("checkpoint_interval_events"),
    "SESSION_MAX_EVENTS": Alias("max_events_per_session"),
    "SESSION_GRACE_TTL": Alias("grace_seconds"),
    "SESSION_ENABLE_FAILURE_SNAPSHOTS": Alias("enable_failure_snapshots"),
    "SESSION_GLOBAL_CHANNEL": Alias("global_channel"),
    "SESSION_CHANNEL_PREFIX": Alias("channel_prefix"),
}


def _preset(timeout: int, events: int, max_events: int, grace: int, snapshots: bool) -> dict[str, Any]:
    return {
        "session_timeout_seconds": timeout,
        "checkpoint_interval_events": events,
        "max_events_per_session": max_events,
        "grace_seconds": grace,
        "enable_failure_snapshots": snapshots,
    }


PRESETS: Mapping[Environment, Mapping[str, Any]] = {
    "development": _preset(1800, 5, 500, 180, True),
    "test": {**_preset(300, 3, 100, 60, False), "redis_db": 15},
    "staging": _preset(3600, 15, 2000, 600, True),
    "production": _preset(3600, 15, 2000, 600, True),
}


def preset(environment: object) -> Mapping[str, Any]:
    """The values an environment chooses; empty for a word that is no environment."""
    return next((values for name, values in PRESETS.items() if name == environment), {})


@dataclass(frozen=True)
class Read:
    """A value with the name under which the reader set it, for the message of a refusal."""

    value: Any
    source: str


def from_environment(environ: Mapping[str, str], known: frozenset[str]) -> tuple[dict[str, Read], list[str]]:
    """The settings found in ``environ`` and the ``FLEET_`` names that are no setting.

    An empty variable counts as not set, as in a compose file that passes ``${NAME:-}``.
    """
    found: dict[str, Read] = {}
    for name, alias in ALIASES.items():
        raw = environ.get(name, "")
        if raw and alias.setting not in found:
            found[alias.setting] = Read(_times(raw, alias.factor), name)
    unknown: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in LAUNCHER_ONLY:
            continue
        setting = name.removeprefix(PREFIX).lower()
        if setting not in known or name != name.upper():
            unknown.append(name)
        elif environ[name]:
            found[setting] = Read(environ[name], name)
    return found, unknown


def _times(raw: str, factor: int) -> Any:
    try:
        return raw if factor == 1 else int(raw) * factor
    except ValueError:
        return raw  # the check of the setting says what is wrong with it
