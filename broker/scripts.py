"""The Lua scripts of this room, run by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError


class Script:
    """One script. Keys are whole: the caller has put the global prefix in front."""

    def __init__(self, name: str) -> None:
        self.source = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run it; a server that does not know it, or no longer, gets the source."""
        # Past the prefixing client of kombu, which prefixes the first key only.
        run = redis.Redis.execute_command
        try:
            return run(client, "EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return run(client, "EVAL", self.source, len(keys), *keys, *args)


FETCH = Script("fetch")
RESTORE = Script("restore")
RING = Script("ring")
ROLL_CALL = Script("roll_call")
SIGN_OFF = Script("sign_off")
CHANGE_NAME = Script("change_name")
