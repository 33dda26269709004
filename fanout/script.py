"""Lua scripts by their digest, loaded again when the server has forgotten them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        """All calls in one pipeline, answers in order; calls the server did not know are made again.

        Raises the first error among the answers, after all calls were made.
        """
        answers = self._pipelined(client, calls)
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            client.script_load(self.source)
            for i, answer in zip(unknown, self._pipelined(client, [calls[i] for i in unknown]), strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _pipelined(self, client: Redis, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        with client.pipeline(transaction=False) as pipe:
            for keys, arguments in calls:
                pipe.evalsha(self.digest, len(keys), *keys, *arguments)
            return list(pipe.execute(raise_on_error=False))
