"""Celery's configuration: known keys, queues that do not leak, limits that fit together (P-11)."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.exceptions import QueueNotFound

from sessionfleet.messages import CATALOGUE
from workers.celery_config import PRIORITY_STEPS, QUEUES, celery_config
from workers.settings import Settings

REDBEAT = {"redbeat_redis_url", "redbeat_redis_options", "redbeat_lock_timeout"}
UNLISTED = {"redis_client_name", "redis_backend_health_check_interval"}  # read, but not in Celery's table


def app(**settings: object) -> Celery:
    made = Celery("test", set_as_current=False)
    made.conf.update(celery_config(Settings.load({}, **settings)))
    return made


def test_celery_knows_every_key() -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(celery_config(Settings.load({}))) - known == REDBEAT | UNLISTED


@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_takes_only_its_own_messages(name: str) -> None:
    queue = app().amqp.queues[name]
    assert (queue.exchange.name, queue.exchange.type, queue.routing_key) == (name, "direct", name)


def test_every_message_has_a_declared_queue_and_is_routed_to_it() -> None:
    router = app().amqp.router
    for name, message in CATALOGUE.items():
        assert message.queue in QUEUES
        assert router.route({}, name)["queue"].name == message.queue


def test_a_message_sent_by_name_is_of_medium_priority_unless_it_says_else() -> None:
    router = app().amqp.router
    assert router.route({}, "session.create")["priority"] == 6
    assert router.route({"priority": 0, "queue": "sessions"}, "session.create")["priority"] == 0


def test_a_misspelt_queue_fails() -> None:
    with pytest.raises(QueueNotFound):
        app().amqp.router.route({"queue": "sesions"}, "session.create")


def test_only_json_is_accepted() -> None:
    conf = app().conf
    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert conf.task_serializer == conf.result_serializer == conf.event_serializer == "json"


def test_limits_fit_together() -> None:
    conf = app(task_time_limit=10, visibility_timeout=12, shutdown_grace=7).conf
    assert conf.task_soft_time_limit < conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]
    assert conf.result_backend_transport_options["visibility_timeout"] == 12
    assert conf.worker_soft_shutdown_timeout == 7
    assert conf.broker_transport_options["priority_steps"] == PRIORITY_STEPS
    assert conf.task_default_priority in PRIORITY_STEPS


def test_the_result_backend_never_waits_for_long() -> None:
    backend = app().backend
    assert backend.connparams["socket_timeout"] == 2
    assert backend.connparams["socket_connect_timeout"] == 2
    assert backend.connparams["health_check_interval"] == 10
    assert backend.connparams["client_name"] == "sessionfleet"
    assert (backend.retry_policy["timeout"], backend.retry_policy["max_retries"]) == (2, 1)


def test_each_server_has_its_own_url() -> None:
    conf = app(redis_url="redis://:pw@box:7000/3").conf
    assert conf.broker_url == "redis://:pw@box:7000/3"
    assert conf.redbeat_redis_url == "redis://:pw@box:7000/5"
    assert conf.result_backend == "workers.results:AnswerBackend+redis://:pw@box:7000/6"
