"""The catalogue of operations: complete, registered, tested, and its page up to date (R-12)."""

from __future__ import annotations

import re
from functools import cache

import pytest

import tasks.all  # noqa: F401 - declares every task
from sessionfleet.errors import CODES
from sessionfleet.messages import CATALOGUE
from tasks.base import DECLARED, FleetTask
from workers.app import create_app
from workers.home import ROOT
from workers.settings import Settings
from workers.tasks_doc import PAGE, page

BUILT_IN = ("celery", "pytest_celery")
"""Shared tasks of these packages appear in every app of the process."""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it with: python -m workers.tasks_doc"


def test_every_message_has_its_task_and_every_task_its_message() -> None:
    assert set(DECLARED) == set(CATALOGUE)
    assert all(declared.message is CATALOGUE[name] for name, declared in DECLARED.items())


def test_the_app_registers_them_all_and_nothing_else() -> None:
    app = create_app(Settings.load({}))
    ours = {name: task for name, task in app.tasks.items() if name.partition(".")[0] not in BUILT_IN}
    assert set(ours) == set(CATALOGUE)
    assert all(isinstance(task, FleetTask) for task in ours.values())
    queues = {queue.name for queue in app.conf.task_queues}
    assert {kind.queue for kind in CATALOGUE.values()} <= queues


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_operation_is_named_by_a_noun_and_a_verb_and_described(name: str) -> None:
    kind = CATALOGUE[name]
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
    assert kind.__doc__
    assert kind.answer
    assert {error.code for error in kind.errors} <= set(CODES)
    assert f"### {name}\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_operation_is_tried_on_a_real_fleet(name: str) -> None:
    tried = re.compile(rf"[\"'/ ]{re.escape(name)}[\"'/ ,]")
    assert tried.search(all_that_run_on_fleets())


@cache
def all_that_run_on_fleets() -> str:
    files = [path for part in ("acceptance", "integration") for path in (ROOT / "tests" / part).rglob("*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
