"""One factory for Redis clients, every option explicit.

redis-py's defaults differ by how a client is made: ``Redis()`` retries ten times, ``from_url()`` never,
neither checks idle connections. Here nothing is left to defaults.
"""

from __future__ import annotations

from redis import Connection, ConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

PATIENT = 5.0
"""Seconds to wait for an answer where the work can wait: the relay's publishing (D-09)."""

HASTY = 0.5
"""Seconds to wait for an answer where Redis is a help, not a need: cache and hint (B-12)."""


def connect(
    url: str,
    *,
    name: str,
    timeout: float = PATIENT,
    connect_timeout: float | None = None,
    retries: int = 1,
    retry_delay: float = 0.0,
    max_connections: int = 50,
) -> Redis:
    """A client for ``url`` (``redis://``, ``rediss://``, ``unix://``); nothing is sent before its first use.

    ``name`` shows in CLIENT LIST. ``timeout`` bounds the wait for each answer, ``connect_timeout``
    (default: as ``timeout``) the connecting, both in seconds. A command whose connection turns out to be
    lost is sent again up to ``retries`` times, the first after ``retry_delay`` seconds, doubled each time
    up to 2 s; one that timed out is not, as the server may be working on it. So only commands that may run
    twice belong on such a client. Idle connections are probed after 10 s, TCP keepalive is on. Answers are
    bytes. A pool of at most ``max_connections`` is shared by all threads and made anew after a fork; the
    next user beyond them gets MaxConnectionsError at once.

    Options in the query string of ``url`` win over these, as redis-py has it.
    """
    backoff = ExponentialBackoff(cap=2.0, base=retry_delay) if retry_delay > 0 else NoBackoff()
    pool = ConnectionPool.from_url(
        url,
        client_name=name,
        socket_timeout=timeout,
        socket_connect_timeout=timeout if connect_timeout is None else connect_timeout,
        socket_keepalive=True,
        retry=Retry(backoff, retries, supported_errors=(RedisConnectionError,)),
        retry_on_timeout=False,
        health_check_interval=10,
        max_connections=max_connections,
        decode_responses=False,
        protocol=2,  # one wire format on Redis 6.2, 7 and Valkey; nothing of RESP3 is used
        driver_info=None,
    )
    return Redis.from_pool(pool)


class Kept:
    """A connection of a client that stays with one user: lent by the pool each time, it costs as much again as a
    short command. Not for several threads at once."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._free: Connection | None = None

    def take(self) -> Connection:
        """The connection, or a new one if it is lost or was never given back. May turn out to be lost when used."""
        connection, self._free = self._free, None
        return connection or self._pool.get_connection()

    def give_back(self, connection: Connection, *, lost: bool) -> None:
        """After each use; ``lost`` unless every answer was read."""
        if lost:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)
        else:
            self._free = connection
