"""pytest-celery's cluster fixtures over local processes: broker, backend, our own worker, our database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestNode,
    RedisTestBackend,
    RedisTestBroker,
)
from sqlalchemy import Engine, create_engine

from tests.support.nodes import FleetWorker, LocalPostgres, LocalValkey, LocalWorker
from tests.support.running import clean_environment
from workers.migrate import migrate
from workers.settings import Settings

VISIBILITY_SECONDS = 3
"""A killed worker's messages come back after this; real fleets wait six minutes."""


@pytest.fixture(scope="module")
def postgres_node() -> Iterator[CeleryTestNode]:
    node = CeleryTestNode(LocalPostgres())
    yield node
    node.teardown()


@pytest.fixture
def default_redis_broker() -> LocalValkey:
    return LocalValkey()


@pytest.fixture
def default_redis_backend() -> LocalValkey:
    return LocalValkey()


# Without these two every test would also run over RabbitMQ and Memcached.
@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_redis_broker)


@pytest.fixture
def celery_backend_cluster(celery_redis_backend: RedisTestBackend) -> CeleryBackendCluster:
    return CeleryBackendCluster(celery_redis_backend)


@pytest.fixture
def default_worker_cls() -> type[FleetWorker]:
    return FleetWorker


@pytest.fixture
def default_worker_container_cls() -> type[LocalWorker]:
    return LocalWorker


@pytest.fixture
def default_worker_env(postgres_node: CeleryTestNode, celery_worker_cluster_config: dict[str, Any]) -> dict[str, str]:
    """Broker (with the cache) and backend are servers of their own, so each can be taken away alone."""
    [broker] = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
    [backend] = celery_worker_cluster_config["celery_backend_cluster_config"]["urls"]
    return {
        **clean_environment(),
        "FLEET_ENVIRONMENT": "test",
        "FLEET_DATABASE_URL": postgres_node.config()["url"],
        "FLEET_REDIS_URL": broker,
        "FLEET_RESULT_URL": backend,
        "FLEET_TASK_TIME_LIMIT": str(VISIBILITY_SECONDS - 1),
        "FLEET_VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
    }


@pytest.fixture
def default_worker_container(
    default_worker_container_cls: type[LocalWorker], default_worker_env: dict[str, str]
) -> LocalWorker:
    migrate(Settings.load(default_worker_env))
    return default_worker_container_cls(default_worker_env)


@pytest.fixture
def database(postgres_node: CeleryTestNode) -> Iterator[Engine]:
    """What was really written, seen past every worker."""
    engine = create_engine(postgres_node.config()["url"])
    yield engine
    engine.dispose()
