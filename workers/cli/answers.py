"""Answers of operations on stdout: text for people, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")


def document(answer: Any) -> str:
    """An answer as JSON, indented."""
    return json.dumps(answer, indent=2, ensure_ascii=False)


def show_answer(answer: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print ``answer`` as JSON, or what ``text`` makes of it."""
    click.echo(document(answer) if as_json else text(answer))


def requeued(answer: Mapping[str, list[int]], because: str) -> str:
    """What a requeue came to; ``because``: why letters are skipped."""
    lines = []
    if answer["requeued"]:
        lines.append(f"requeued {_named(answer['requeued'])}")
    if answer["skipped"]:
        lines.append(f"skipped {_named(answer['skipped'])}: {because}")
    return "\n".join(lines)


def with_rest(text: str, more: object) -> str:
    """The text of a page, with a last line if there are ``more``."""
    return f"{text}\n(there are more: raise --limit)" if more else text


def _named(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
