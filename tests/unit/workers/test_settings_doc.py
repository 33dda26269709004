"""The reference page of the settings is the one the declarations give."""

from __future__ import annotations

import re
from dataclasses import fields

from schedules.entries import ENTRIES
from sessions.policy import Policy
from workers.settings import Settings
from workers.settings_doc import PAGE, page
from workers.settings_kinds import spec_of


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m workers.settings_doc"


def test_every_setting_is_on_the_page() -> None:
    for name, field in Settings.model_fields.items():
        assert f"| `FLEET_{name.upper()}` |" in page()
        assert field.description


ROOMS = ("client/sessionfleet", "fanout", "schedules", "tasks", "workers")


def test_every_setting_is_read_or_says_what_will_read_it() -> None:
    """A knob that turns nothing would be a false promise of the page."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for room in ROOMS
        for path in (PAGE.parents[1] / room).rglob("*.py")
        if not path.name.startswith("settings_")
    )
    entries = {f"{entry.name}_interval" for entry in ENTRIES}
    policy = {field.name for field in fields(Policy)}
    for name, declared in Settings.model_fields.items():
        is_read = name in entries | policy or re.search(rf"\b(settings|self)\.{name}\b|\"{name}\"", code)
        assert bool(is_read) != bool(spec_of(declared).later), name
