"""Tasks on agents."""

from __future__ import annotations

from typing import Any

from sessionfleet.messages.agents import AgentHeartbeat
from sessions import agents
from tasks.base import command
from tasks.unit_of_work import Work


@command(AgentHeartbeat)
def heartbeat(work: Work, command: AgentHeartbeat) -> dict[str, Any]:
    """Register an agent or renew it (A-16)."""
    return agents.heartbeat(work.db, command, work.now)
