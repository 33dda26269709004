"""Lua scripts by their digest, loaded again when the server has forgotten them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import NoScriptError

_FOLDER = Path(__file__).with_name("lua")


class Script:
    """One script: that of ``fanout/lua`` with this name, unless its ``source`` is given. The server forgets
    scripts at SCRIPT FLUSH and restart."""

    def __init__(self, name: str, source: str | None = None) -> None:
        self.source = source or (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """One call. Raises what redis-py raises, but never NoScriptError."""
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.source, len(keys), *keys, *arguments)

    def run_many(self, client: Redis, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """All calls in one pipeline, answers in order; raises the first error among them, after all were made."""
        return checked(run_calls(client, [Call(self, keys, arguments) for keys, arguments in calls]))


class Call(NamedTuple):
    """A script with what it is called with."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any]


def run_calls(client: Redis, calls: Sequence[Call], then: Sequence[Sequence[Any]] = ()) -> list[Any]:
    """Calls of any scripts, ``then`` plain commands, in one round trip; answers or errors in their order. A script
    that the server did not know is loaded and called after all else. Raises only what the connection raises."""
    answers = _pipelined(client, calls, then)
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for source in {calls[i].script.source for i in unknown}:
            client.script_load(source)
        for i, answer in zip(unknown, _pipelined(client, [calls[i] for i in unknown]), strict=True):
            answers[i] = answer
    return answers


def checked(answers: list[Any]) -> list[Any]:
    """The same answers; raises the first error among them."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _pipelined(client: Redis, calls: Sequence[Call], then: Sequence[Sequence[Any]] = ()) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for script, keys, arguments in calls:
            pipe.evalsha(script.digest, len(keys), *keys, *arguments)
        for command in then:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        return list(pipe.execute(raise_on_error=False))
