"""Where a fleet's Redis databases are (P-02)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from sessionfleet.errors import ValidationFailed

CACHE_OFFSET = 1
RESULT_OFFSET = 3
DATABASES = 16

HOW_TO_SAY = (
    "give Fleet.connect() a Redis URL or set FLEET_REDIS_URL; for a fleet started here with "
    './fleet up, run: eval "$(./fleet env)"'
)


@dataclass(frozen=True)
class Servers:
    """The three databases a client talks to: queues, results, and fan-out (cache)."""

    broker_url: str
    result_url: str
    cache_url: str
    channel_prefix: str = ""

    @classmethod
    def find(
        cls,
        url: str | None = None,
        *,
        broker_url: str | None = None,
        result_url: str | None = None,
        cache_url: str | None = None,
        channel_prefix: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Each URL from its argument, else derived from ``url``, else from ``FLEET_<NAME>``, else
        derived from ``FLEET_REDIS_URL``.

        Derived as the fleet derives them: database N for queues, N+1 for fan-out, N+3 for results,
        modulo 16; N is the URL's database, else ``FLEET_REDIS_DB``, else 0. Raises
        :class:`ValidationFailed` when a URL is missing or is no Redis URL; connects to nothing.
        """
        environ = os.environ if environ is None else environ
        first = environ.get("FLEET_REDIS_DB", "")
        base = url or ""

        def pick(name: str, given: str | None, offset: int) -> str:
            variable = f"FLEET_{name.upper()}"
            found = given or (_moved(base, offset, "", "url") if base else environ.get(variable, ""))
            if found:
                return _checked(found, name if given else variable)
            shared = environ.get("FLEET_REDIS_URL", "")
            if not shared:
                raise ValidationFailed.of(name, f"no server is named: {HOW_TO_SAY}")
            return _moved(shared, offset, first, "FLEET_REDIS_URL")

        return cls(
            broker_url=pick("broker_url", broker_url, 0),
            result_url=pick("result_url", result_url, RESULT_OFFSET),
            cache_url=pick("cache_url", cache_url, CACHE_OFFSET),
            channel_prefix=environ.get("FLEET_CHANNEL_PREFIX", "") if channel_prefix is None else channel_prefix,
        )


def _checked(url: str, source: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValidationFailed.of(source, "must be a URL like redis://localhost:6379/0")
    return url


def _moved(url: str, offset: int, first: str, source: str) -> str:
    parts = urlsplit(_checked(url, source))
    number = parts.path.strip("/") or first or "0"
    if not number.isdecimal() or int(number) >= DATABASES:
        raise ValidationFailed.of(source, f"its database must be a number from 0 to {DATABASES - 1}")
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")
    moved = (int(number) + offset) % DATABASES
    return urlunsplit(parts._replace(path=f"/{moved}", query=urlencode(query)))
