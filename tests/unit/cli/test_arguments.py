"""``./fleet call TASK key=value ...``: what a typed value means."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from workers.cli.arguments import UsageError, parse


@pytest.mark.parametrize(
    ("name", "pair", "expected"),
    [
        ("session.create", "agent_id=a1", {"agent_id": "a1"}),
        ("session.create", "agent_id=42", {"agent_id": "42"}),
        ("session.create", "query=true", {"query": "true"}),
        ("session.create", "query=a=b", {"query": "a=b"}),
        ("session.create", "query=", {"query": ""}),
        ("session.create", "query=@@me", {"query": "@me"}),
        ("session.create", "timeout_seconds=60", {"timeout_seconds": 60}),
        ("session.create", "timeout_seconds=soon", {"timeout_seconds": "soon"}),
        ("session.create", 'tags=["a", "b"]', {"tags": ["a", "b"]}),
        ("session.create", 'context={"a": 1}', {"context": {"a": 1}}),
        ("session.list", "status=active", {"status": "active"}),
        ("session.list", 'status=["active", "idle"]', {"status": ["active", "idle"]}),
        ("session.list", "include_deleted=true", {"include_deleted": True}),
        ("session.emit_event", 'impact={"severity": "low"}', {"impact": {"severity": "low"}}),
        ("session.update", 'context=[{"op": "remove", "path": "/a"}]', {"context": [{"op": "remove", "path": "/a"}]}),
        ("session.update_context", "batch=3", {"batch": 3}),
        ("session.update_context", "note=hello there", {"note": "hello there"}),
        ("no.such", "n=1", {"n": 1}),
    ],
)
def test_a_value_is_what_its_field_takes(name: str, pair: str, expected: dict[str, Any]) -> None:
    assert parse(name, [pair]) == expected


def test_pairs_win_over_the_object() -> None:
    assert parse("session.create", ["agent_id=b"], '{"agent_id": "a", "user_id": "u"}') == {
        "agent_id": "b",
        "user_id": "u",
    }


def test_values_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "context.json").write_text('{"a": "ü"}', encoding="utf-8")
    assert parse("session.create", [f"context=@{tmp_path}/context.json"]) == {"context": {"a": "ü"}}
    assert parse("session.create", [f"query=@{tmp_path}/context.json"]) == {"query": '{"a": "ü"}'}
    monkeypatch.setattr("sys.stdin", io.StringIO("typed"))
    assert parse("session.append_output", ["content=@-"]) == {"content": "typed"}


@pytest.mark.parametrize(
    ("pairs", "text", "words"),
    [
        (["agent_id"], None, "no key=value"),
        (["=x"], None, "no key=value"),
        (["context={a:1}"], None, """context: not JSON; quote it like 'context={"a": 1}'"""),
        (["tags=a,b"], None, r"""tags: not JSON; quote it like 'tags=\["a", "b"\]'"""),
        (["query=@/no/such/file"], None, "/no/such/file: No such file"),
        ([], "{", "--json: not JSON"),
        ([], "[1]", "--json: must be a JSON object"),
    ],
)
def test_what_cannot_be_understood_is_said(pairs: list[str], text: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse("session.create", pairs, text)
