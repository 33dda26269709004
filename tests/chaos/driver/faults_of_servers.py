"""Redis and PostgreSQL that die, freeze, refuse or forget, and the ways to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.driver.faults import Scene, fault
from tests.chaos.driver.ground import Ground
from tests.support.proxy import Proxy

_TERMINATE = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'fleet%'
""")
_LOCK = text("SELECT count(*) FROM (SELECT FROM sessions ORDER BY updated_at DESC LIMIT 3 FOR UPDATE) AS locked")


def _redis(ground: Ground, ask: Callable[[redis.Redis], object]) -> None:
    """A command to the server itself; nothing when it does not answer."""
    with suppress(redis.RedisError), ground.valkey.client() as client:
        ask(client)


@fault("redis", 5, (0, 3))
@contextmanager
def redis_killed(scene: Scene) -> Iterator[None]:
    scene.ground.valkey.kill()
    yield
    scene.ground.valkey.start()
    scene.ground.sync_each_write()


@fault("redis", 4, (1, 8))
@contextmanager
def redis_frozen(scene: Scene) -> Iterator[None]:
    scene.ground.valkey.pause()
    yield
    scene.ground.valkey.resume()


@fault("redis", 3, (1, 4))
@contextmanager
def redis_read_only(scene: Scene) -> Iterator[None]:
    """A replica of a server that does not exist, as after a fail-over."""
    _redis(scene.ground, lambda client: client.replicaof("127.0.0.1", "9"))
    yield
    _redis(scene.ground, lambda client: client.replicaof("NO", "ONE"))


@fault("redis", 3, (1, 4))
@contextmanager
def redis_out_of_memory(scene: Scene) -> Iterator[None]:
    _redis(scene.ground, lambda client: client.config_set("maxmemory", 1))
    yield
    _redis(scene.ground, lambda client: client.config_set("maxmemory", 0))


@fault("redis", 4)
@contextmanager
def redis_connections_killed(scene: Scene) -> Iterator[None]:
    for kind in ("normal", "pubsub"):
        _redis(scene.ground, lambda client, kind=kind: client.execute_command("CLIENT", "KILL", "TYPE", kind))
    yield


@fault("redis", 4)
@contextmanager
def cache_emptied(scene: Scene) -> Iterator[None]:
    """FLUSHALL of what a cache Redis holds: documents, Streams, locks of nobody; not the queues."""
    with suppress(redis.RedisError):
        scene.ground.fleet.cache.flushdb()
    yield


@fault("postgres", 6, (0, 3))
@contextmanager
def postgres_restarted(scene: Scene) -> Iterator[None]:
    """Immediate stop: what was not committed is gone, recovery at the start."""
    scene.ground.postgres.stop(mode="immediate")
    yield
    scene.ground.postgres.start()


@fault("postgres", 6)
@contextmanager
def postgres_connections_ended(scene: Scene) -> Iterator[None]:
    with suppress(SQLAlchemyError), scene.ground.fleet.engine.begin() as db:
        db.execute(_TERMINATE)
    yield


@fault("postgres", 3, (1, 6))
@contextmanager
def rows_locked(scene: Scene) -> Iterator[None]:
    """Somebody else's transaction holds the rows that were written last."""
    with ExitStack() as stack:
        with suppress(SQLAlchemyError):
            db = stack.enter_context(scene.ground.fleet.engine.begin())
            db.execute(text("SET LOCAL lock_timeout = '2s'"))
            db.execute(_LOCK)
        yield


@fault("network", 5)
@contextmanager
def connections_cut(scene: Scene) -> Iterator[None]:
    for proxy in _proxies(scene):
        proxy.cut()
    yield


@fault("network", 4, (2, 6))
@contextmanager
def network_slow(scene: Scene) -> Iterator[None]:
    delay = scene.random.uniform(0.005, 0.1)
    for proxy in _proxies(scene):
        proxy.delay = delay
    yield
    for proxy in _all_proxies(scene):
        proxy.delay = 0


@fault("network", 4, (1, 6))
@contextmanager
def answers_dropped(scene: Scene) -> Iterator[None]:
    """Requests arrive, answers do not; then the connections are cut, as what was lost cannot be found again."""
    for proxy in _proxies(scene):
        proxy.deaf = True
    yield
    for proxy in _all_proxies(scene):
        if proxy.deaf:
            proxy.deaf = False
            proxy.cut()


@fault("network", 3)
@contextmanager
def cut_in_the_middle_of_an_answer(scene: Scene) -> Iterator[None]:
    for proxy in _proxies(scene):
        proxy.after = scene.random.randint(1, 2000)
    yield


@fault("network", 3, (1, 8))
@contextmanager
def network_frozen(scene: Scene) -> Iterator[None]:
    """Nothing passes, nothing is closed."""
    for proxy in _proxies(scene):
        proxy.freeze()
    yield
    for proxy in _all_proxies(scene):
        proxy.thaw()


def _proxies(scene: Scene) -> list[Proxy]:
    """One of the two, or both."""
    both = _all_proxies(scene)
    return scene.random.choice([both[:1], both[1:], both])


def _all_proxies(scene: Scene) -> list[Proxy]:
    return [scene.ground.redis_proxy, scene.ground.database_proxy]
