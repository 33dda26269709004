"""What importing the package does, and does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sessionfleet
from sessionfleet.messages import CATALOGUE
from sessionfleet.schemas import fingerprint, schema_of, schemas

CLIENT = Path(sessionfleet.__file__).parent.parent


def loaded(code: str) -> set[str]:
    """Top-level modules that ``code`` has loaded, in an interpreter that sees the client only."""
    environ = {"PATH": os.defpath, "PYTHONPATH": str(CLIENT)}
    script = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd="/", capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_messages_and_errors_bring_no_celery_and_no_redis() -> None:
    assert not {"celery", "kombu", "redis"} & loaded("import sessionfleet.messages, sessionfleet.errors")


def test_the_client_needs_no_room_of_the_fleet() -> None:
    found = loaded("from sessionfleet import AsyncFleet, Event, Fleet, FleetError, Handle, AsyncHandle")
    assert "redis" in found
    assert (
        not {"celery", "kombu", "tasks", "sessions", "models", "workers", "fanout", "history", "sqlalchemy"} & found
    )


def test_every_public_name_is_there() -> None:
    for name in sessionfleet.__all__:
        assert getattr(sessionfleet, name).__name__ == name
    with pytest.raises(AttributeError, match="Flet"):
        _ = sessionfleet.Flet  # type: ignore[attr-defined]


def test_every_message_has_a_schema() -> None:
    assert set(schemas()) == set(CATALOGUE)
    schema = schema_of("session.get_events")
    assert schema["x-queue"] == "sessions"
    assert schema["required"] == ["session_id"]
    assert schema["properties"]["limit"]["maximum"] == 1000


def test_the_fingerprint_counts_demands_and_not_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = fingerprint(), schemas()
    assert len(before) == 64
    monkeypatch.setattr("sessionfleet.schemas.schemas", lambda: found)
    extend = found["session.extend"]
    extend["description"] = "In other words."
    extend["additionalProperties"] = False
    extend["properties"]["seconds"]["title"] = "Secs"
    extend["properties"]["seconds"]["maximum"] = float(extend["properties"]["seconds"]["maximum"])
    assert fingerprint() == before
    extend["properties"]["seconds"]["maximum"] += 1
    assert fingerprint() != before


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("session.create", {"SESSION_EXISTS", "AGENT_NOT_FOUND", "PAYLOAD_TOO_LARGE", "CHECKPOINT_TOO_LARGE"}),
        ("session.update", {"AGENT_NOT_FOUND", "PAYLOAD_TOO_LARGE", "CHECKPOINT_TOO_LARGE", "PATCH_TEST_FAILED"}),
        ("session.update_metrics", {"PAYLOAD_TOO_LARGE"}),
        ("session.set_status", {"PAYLOAD_TOO_LARGE", "INVALID_TRANSITION"}),
        ("session.complete", {"PAYLOAD_TOO_LARGE", "INVALID_TRANSITION"}),
        ("session.fail", {"PAYLOAD_TOO_LARGE", "INVALID_TRANSITION"}),
        ("session.delete", {"SESSION_NOT_FOUND", "VERSION_CONFLICT"}),
    ],
)
def test_an_operation_names_the_errors_it_may_end_with(name: str, codes: set[str]) -> None:
    assert codes <= {error.code for error in CATALOGUE[name].errors}
