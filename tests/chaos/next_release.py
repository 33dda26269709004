"""The fleet's app as a later release may have it: one operation more, one argument more."""

from __future__ import annotations

import dataclasses

import tasks.all  # noqa: F401 - declares what there is
from sessionfleet.messages import AppendOutput
from sessions import output
from tasks.base import DECLARED, operation


class Shout(AppendOutput, name="session.shout"):
    """Append output, by another name."""


class LouderAppend(AppendOutput):
    """Append output; ``volume`` is new."""

    volume: int = 1


operation(Shout, output.append_output)
DECLARED["session.append_output"] = dataclasses.replace(DECLARED["session.append_output"], message=LouderAppend)

from workers.main import app  # noqa: E402 - made of what is declared by now

__all__ = ["app"]
