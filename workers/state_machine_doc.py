"""docs/state-machine.md, drawn from the table the verbs use: ``python -m workers.state_machine_doc``."""

from __future__ import annotations

from pathlib import Path

from sessionfleet.words import STATUSES, TERMINAL
from sessions.machine import END_REASONS, MOVES, event_name

PAGE = Path(__file__).parent.parent / "docs" / "state-machine.md"

_INTRO = """# The state machine of a session

Generated from `sessions/machine.py` by `python -m workers.state_machine_doc`; do not edit.

A move that is not here is `INVALID_TRANSITION`, with nothing written. Moving to the present status
answers `changed=false` and leaves no event, except that `start` and `recover` on an active session and
`resume` on one that is neither paused nor idle are errors. Terminal statuses have no exit, ever.

So a status verb on an expired session is `INVALID_TRANSITION`, as on any session that has ended. `SESSION_EXPIRED` is
the answer to what is no move (data, output, events, `touch`, `extend`), and to any write, moves included, that finds
the session overdue and expires it.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRO, *_diagram(), "", *_table(), "", *_events(), ""])


def _diagram() -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> initializing", "    [*] --> active"]
    inner = [(a, b) for a in STATUSES for b in STATUSES if b in MOVES[a] and b not in TERMINAL]
    lines += [f"    {current} --> {to}" for current, to in inner]
    ends = {current: sorted(MOVES[current] & TERMINAL) for current in STATUSES if current not in TERMINAL}
    lines += [f"    {current} --> ended: {', '.join(to)}" for current, to in ends.items()]
    return [*lines, "    ended --> [*]", "```"]


def _table() -> list[str]:
    moves = {status: ", ".join(to for to in STATUSES if to in MOVES[status]) for status in STATUSES}
    return ["| from | may move to |", "|---|---|", *(f"| {a} | {to or 'nothing'} |" for a, to in moves.items())]


def _events() -> list[str]:
    rows = ["| move | event |", "|---|---|"]
    rows += [
        f"| initializing to active | `{event_name('initializing', 'active', started=False)}` |",
        f"| paused, idle or waiting_input to active | `{event_name('paused', 'active', started=True)}` |",
        f"| interrupted or crashed to active | `{event_name('crashed', 'active', started=True)}` |",
    ]
    rest = [status for status in STATUSES if status not in ("initializing", "active")]
    rows += [f"| to {to} | `{event_name('active', to, started=True)}` |" for to in rest]
    ends = ", ".join(f"{status}: `{reason}`" for status, reason in END_REASONS.items())
    return [*rows, "", f"`end_reason` unless the cause says otherwise: {ends}."]


if __name__ == "__main__":
    PAGE.write_text(page())
