"""What the domain needs to know of the settings, handed to every verb."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from sessions.shapes import Schemas


@dataclass(frozen=True, slots=True)
class Policy:
    """Defaults and bounds; names, units and defaults are those of the settings of the same name."""

    session_timeout_seconds: int = 1800
    min_timeout_seconds: int = 60
    max_lifetime_seconds: int = 0
    paused_timeout_seconds: int = 86400
    recovery_window_seconds: int = 604800
    warn_before: tuple[int, ...] = (300,)
    max_context_bytes: int = 1048576
    max_metadata_bytes: int = 65536
    max_event_bytes: int = 1048576
    max_checkpoint_bytes: int = 10485760
    max_events_per_session: int = 1000
    event_limit_policy: str = "window"
    output_buffer_lines: int = 1000
    output_max_bytes: int = 10485760
    idempotency_ttl: int = 86400
    strict_session_types: bool = False
    check_agents: bool = False
    context_schemas: Schemas = field(default_factory=dict)

    @property
    def idempotency_life(self) -> timedelta:
        """How long a stored answer is kept."""
        return timedelta(seconds=self.idempotency_ttl)
