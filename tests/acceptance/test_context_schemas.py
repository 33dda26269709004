"""Contexts that must fit a JSON Schema per session type (row B-09)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessionfleet.errors import ValidationFailed
from tests.support.private import PrivateFleet
from workers.app import create_app
from workers.settings import Settings, SettingsError

SCHEMAS = {
    "batch": {
        "type": "object",
        "required": ["working_directory"],
        "properties": {"current_batch": {"type": "integer", "minimum": 0}},
    }
}


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    path = tmp_path / "schemas.json"
    path.write_text(json.dumps(SCHEMAS))
    return str(path)


def test_a_context_must_fit_the_schema_of_its_type(private_fleet: PrivateFleet, schemas: str) -> None:
    """B-09: enforced for the named type at creation and at every change, nothing written; others stay free."""
    fleet = private_fleet(relay=0, FLEET_CONTEXT_SCHEMAS=schemas)
    with pytest.raises(ValidationFailed, match="working_directory"):
        fleet.call("session.create", session_type="batch", context={})
    session = fleet.call("session.create", session_type="batch", context={"working_directory": "/p"})
    with pytest.raises(ValidationFailed) as refused:
        fleet.call("session.update", session_id=session["id"], context={"current_batch": -1})
    assert refused.value.details["fields"][0]["field"] == "context.current_batch"
    assert fleet.call("session.get", session_id=session["id"])["context"] == {"working_directory": "/p"}
    free = fleet.call("session.create", session_type="task", context={"current_batch": "any"})
    with pytest.raises(ValidationFailed):
        fleet.call("session.update", session_id=free["id"], session_type="batch")


@pytest.mark.parametrize("content", ["", "[1]", '{"batch": {"type": 1}}'])
def test_a_file_without_schemas_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "schemas.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="FLEET_CONTEXT_SCHEMAS"):
        create_app(Settings.load({"FLEET_CONTEXT_SCHEMAS": str(path)}))
