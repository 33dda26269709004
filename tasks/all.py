"""Importing this module declares every task of the fleet; a new task module is named here."""

from tasks import (
    agents,
    dead_letters,
    events,
    maintenance,
    maintenance_outbox,
    maintenance_partitions,
    schedule_handlers,
    schedule_scan,
    schedule_views,
    schedules,
    sessions,
)

__all__ = [
    "agents",
    "dead_letters",
    "events",
    "maintenance",
    "maintenance_outbox",
    "maintenance_partitions",
    "schedule_handlers",
    "schedule_scan",
    "schedule_views",
    "schedules",
    "sessions",
]
