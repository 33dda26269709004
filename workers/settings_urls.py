"""URLs of PostgreSQL and Redis as text: check, rewrite, mask (P-02)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import ConnectionPool

MASK = "***"


def is_url(value: str, schemes: tuple[str, ...]) -> bool:
    """Whether it parses, has one of the schemes, and a Redis URL names a host, a database number and options that
    redis-py knows."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  (raises on a port that is no number)
    except ValueError:
        return False
    if parts.scheme not in schemes:
        return False
    if "redis" not in schemes:
        return True
    return bool(parts.hostname) and re.fullmatch(r"/?(\d|1[0-5])?", parts.path) is not None and _is_known(value)


def _is_known(redis_url: str) -> bool:
    try:
        ConnectionPool.from_url(redis_url).make_connection()  # connects to nothing
    except (TypeError, ValueError):
        return False
    return True


def is_host(value: str) -> bool:
    """Whether it can stand for the host in a URL: a name, an IPv4 address, or an IPv6 address, also in brackets."""
    bracketed = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return re.fullmatch(r"[\w.-]+", value) is not None or _is_ipv6(bracketed)


def host_in_url(value: str) -> str:
    """An IPv6 address in the brackets that URLs want, any other host as it is."""
    return f"[{value}]" if _is_ipv6(value) else value


def _is_ipv6(value: str) -> bool:
    try:
        IPv6Address(value)
    except ValueError:
        return False
    return True


def postgres_url(value: str) -> str:
    """With the driver spelled out: SQLAlchemy reads a plain ``postgresql://`` as psycopg 3."""
    return re.sub(r"^(postgres|postgresql)://", "postgresql+psycopg2://", value)


def redis_database(value: str) -> int | None:
    """The database number in the URL's path, or None."""
    number = urlsplit(value).path.strip("/")
    return int(number) if number else None


def with_redis_database(value: str, number: int) -> str:
    """The same server, another database; TLS URLs verify the server's certificate unless they say else."""
    parts = urlsplit(value)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")  # Celery refuses a rediss:// backend without it
    return urlunsplit(parts._replace(path=f"/{number}", query=urlencode(query)))


def mask(value: str) -> str:
    """The URL without its password, wherever it stands; one with a slash that should have been ``%2F`` goes too."""
    value = re.sub(r"(://[^/@:]*):.*@", rf"\1:{MASK}@", value)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", value)
