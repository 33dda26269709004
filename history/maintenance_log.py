"""What each run of a duty did, one row per run (table ``maintenance_log``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert

from models import MaintenanceLog


def record(conn: Connection, duty: str, started_at: datetime, result: Mapping[str, Any]) -> None:
    """Add the row of one finished run; ``result`` is JSON, exactly what the duty answered.

    ``duty`` is the wire name. Runs in the caller's transaction; ``finished_at`` is the database's clock.
    """
    conn.execute(
        insert(MaintenanceLog).values(
            duty=duty, started_at=started_at, finished_at=func.clock_timestamp(), result=dict(result)
        )
    )
