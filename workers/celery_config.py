"""Celery's configuration from our settings: one dictionary, each value with its reason (P-11)."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from schedules.entries import beat_schedule
from sessionfleet.messages import CATALOGUE
from workers.settings import Settings

PRIORITY_STEPS = [0, 3, 6, 9]
"""Redis lists per queue for critical, high, medium, low (E-14); 0 is taken first."""

MEDIUM = 6

BEAT_PAUSE, BEAT_TRIES = 1, 60
"""Seconds between two tries of beat to reach a Redis that is away, and tries until it ends and is started again."""

QUEUES = ("sessions", "maintenance", "reviews")
"""Short session operations, periodic duties, runs of scheduled reviews: one never delays another."""


def celery_config(settings: Settings, process: str = "sessionfleet") -> dict[str, Any]:
    """The whole configuration of the app; ``process`` is what Redis' CLIENT LIST shows."""
    return {
        **_messages(),
        **_execution(settings),
        **_worker(settings),
        **_broker(settings, process),
        **_results(settings, process),
        **_beat(settings, process),
    }


def _messages() -> dict[str, Any]:
    return {
        "timezone": "UTC",  # a local zone would silence Celery for an hour each autumn
        "enable_utc": True,
        "task_serializer": "json",  # pickle is code
        "accept_content": ["json"],
        "result_serializer": "json",
        "result_accept_content": ["json"],
        "event_serializer": "json",
        # Each queue has its own exchange and routing key: with shared ones every queue gets every message.
        "task_queues": [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in QUEUES],
        "task_create_missing_queues": False,  # a typing error in a queue's name must fail
        "task_default_queue": "sessions",
        "task_default_exchange": "sessions",
        "task_default_routing_key": "sessions",
        # The priority stands in the routes too: send_task by name does not know the default, and a
        # message without one goes to the list that is taken first.
        "task_default_priority": MEDIUM,
        "task_routes": {name: {"queue": message.queue, "priority": MEDIUM} for name, message in CATALOGUE.items()},
    }


def _execution(settings: Settings) -> dict[str, Any]:
    limit = settings.task_time_limit
    return {
        "task_acks_late": True,  # a dead child must not take its message with it
        "task_retry_on_worker_lost": True,  # bounded by the task's max_retries
        "task_reject_on_worker_lost": True,  # back to the queue when that retry cannot be sent
        "task_ignore_result": True,  # tasks with an answer say False themselves
        "task_time_limit": limit,  # below the visibility timeout: no second copy starts beside the first
        "task_soft_time_limit": max(1, limit * 9 // 10),  # the rest is time to roll back
        "task_send_sent_event": True,  # Flower shows what waits
    }


def _worker(settings: Settings) -> dict[str, Any]:
    return {
        "worker_consumer": "broker.guard:GuardedConsumer",  # no message ends a worker; each gets its typed error
        "worker_prefetch_multiplier": 1,  # priorities order only what no worker has fetched
        # The second copy after a lost connection is harmless (stored answers, epochs); a cancelled
        # task may be stranded until the visibility timeout.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": settings.shutdown_grace,
        "worker_enable_soft_shutdown_on_idle": True,  # also hands back messages that wait for their time
        "worker_max_tasks_per_child": 10_000,  # leaks end; each new child costs connections
        "worker_max_memory_per_child": 400_000,  # KiB
        "worker_pool_start_method": "fork",  # spawn costs a third of the throughput
        "worker_proc_alive_timeout": 30,  # a loaded machine may take long to start a child
        "worker_send_task_events": True,  # Flower
        "worker_hijack_root_logger": False,  # workers.logging does it
    }


def _broker(settings: Settings, process: str) -> dict[str, Any]:
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # never give up
        "broker_channel_error_retry": True,  # live through READONLY, OOM and LOADING
        "broker_connection_timeout": 3,
        "broker_pool_acquire_timeout": 5,  # the default is for ever
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout,  # when a dead worker's messages come back
            "unacked_restore_interval": 2,  # look for them often,
            "unacked_restore_throttle": 1,  # at each look,
            "unacked_restore_limit": 500,  # and put back a part at a time
            "priority_steps": PRIORITY_STEPS,
            **_sockets(process),
        },
    }


def _results(settings: Settings, process: str) -> dict[str, Any]:
    return {
        # Ours: an answer that cannot be stored must not undo, or repeat for ever, what has been done.
        "result_backend": f"workers.results:AnswerBackend+{settings.result_url}",
        "result_expires": 3600,  # answers are read at once; a repeated call gets the stored one
        "result_backend_transport_options": {
            "visibility_timeout": settings.visibility_timeout,  # the shortest of all on one server wins
            # One more try, no waiting: whoever misses an answer can ask again.
            "retry_policy": {"timeout": 2.0, "max_retries": 1, "interval_start": 0.1, "interval_max": 0.1},
        },
        "redis_max_connections": settings.redis_max_connections,
        "redis_socket_timeout": 2.0,  # the default is 120
        "redis_socket_connect_timeout": 2.0,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        "redis_client_name": process,
    }


def _beat(settings: Settings, process: str) -> dict[str, Any]:
    return {
        "beat_scheduler": "workers.beat.Scheduler",
        "beat_schedule": beat_schedule(settings.model_dump()),
        "beat_max_loop_interval": settings.beat_max_loop_interval,
        "redbeat_redis_url": settings.beat_url,
        # A beat waits for its Redis: one that ends instead leaves a lock behind that nobody may take for half a
        # minute. All it sends may be sent twice.
        "redbeat_redis_options": {**_sockets(process), "retry": Retry(ConstantBackoff(BEAT_PAUSE), BEAT_TRIES)},
        "redbeat_lock_timeout": settings.redbeat_lock_timeout,
    }


def _sockets(process: str) -> dict[str, Any]:
    return {
        "socket_timeout": 5,  # a frozen server becomes an error, not a hang
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,  # ends a half-open connection
        "client_name": process,
    }
