"""The entries of beat: plain data, complete, and never piling up (P-10, H-20)."""

from __future__ import annotations

from datetime import timedelta

from celery import Celery

from schedules.entries import ENTRIES, beat_schedule
from sessionfleet.messages import CATALOGUE
from workers.celery_config import celery_config
from workers.home import ROOT
from workers.settings import Settings


def test_every_entry_fires_a_duty_of_its_queue() -> None:
    for entry in ENTRIES:
        assert (CATALOGUE[entry.task].kind, CATALOGUE[entry.task].queue) == ("duty", entry.queue)


def test_every_maintenance_duty_and_the_dispatch_have_their_entry() -> None:
    wanted = {name for name in CATALOGUE if name.startswith("maintenance.")} | {
        "schedule.dispatch_due",
        "schedule.scan",
    }
    assert {entry.task for entry in ENTRIES} == wanted


def test_defaults_are_those_of_the_settings() -> None:
    settings = Settings.load({})
    for entry in ENTRIES:
        assert getattr(settings, f"{entry.name}_interval") == entry.seconds


def test_intervals_come_from_the_caller_and_messages_expire_within_them() -> None:
    schedule = beat_schedule({"dispatch_due_interval": 2})
    assert schedule["dispatch_due"] == {
        "task": "schedule.dispatch_due",
        "schedule": timedelta(seconds=2),
        "options": {"queue": "maintenance", "expires": 2, "ignore_result": True},
    }
    assert schedule["timeout_warnings"]["schedule"] == timedelta(seconds=60)
    assert all(entry["options"]["expires"] <= entry["schedule"].total_seconds() for entry in schedule.values())


def test_the_app_holds_them() -> None:
    app = Celery()
    app.conf.update(celery_config(Settings.load({}, purge_old_interval=3600)))
    assert app.conf.beat_schedule["purge_old"]["schedule"] == timedelta(hours=1)
    assert app.conf.beat_schedule.keys() == {entry.name for entry in ENTRIES}


def test_the_page_lists_them() -> None:
    page = (ROOT / "docs" / "schedules.md").read_text()
    listed = page.partition("<!-- entries -->")[2].partition("<!-- /entries -->")[0].strip().splitlines()[2:]
    assert listed == [f"| `{one.name}` | `{one.task}` | {one.seconds} |" for one in ENTRIES]
