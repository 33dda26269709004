"""agent.heartbeat: how an agent becomes known (row A-16; statuses of G-08)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Name, Write


class AgentHeartbeat(Write, name="agent.heartbeat"):
    """Register an agent, or say that it is still there.

    With check_agents on, sessions may only name agents that have reported at least once.
    """

    answer: ClassVar[str] = "{agent_id, status, registered_at, last_heartbeat}"

    agent_id: Name
    status: Literal["active", "busy", "idle", "maintenance"] = "active"
    metadata: JsonObject = Field(default_factory=dict, description="Replaces what was reported before.")
