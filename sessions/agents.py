"""The register of agents (row A-16)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from models import Agent, table_of
from sessionfleet.messages.agents import AgentHeartbeat

_agents = table_of(Agent)


def heartbeat(db: Connection, command: AgentHeartbeat, now: datetime) -> dict[str, Any]:
    """Insert or renew the agent's row; ``registered_at`` stays that of the first report."""
    statement = insert(_agents).values(
        agent_id=command.agent_id,
        status=command.status,
        metadata=command.metadata,
        registered_at=now,
        last_heartbeat=now,
    )
    renewed = {name: statement.excluded[name] for name in ("status", "metadata", "last_heartbeat")}
    statement = statement.on_conflict_do_update(index_elements=["agent_id"], set_=renewed)
    row = db.execute(statement.returning(_agents.c.registered_at)).one()
    return {
        "agent_id": command.agent_id,
        "status": command.status,
        "registered_at": row.registered_at.isoformat(),
        "last_heartbeat": now.isoformat(),
    }
