"""Views compute for seconds, and hold nothing of the database meanwhile (H-18)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reviews import views
from reviews.store import slots
from sessionfleet.messages import schedule_views as m
from tests.support.servers import Servers


@pytest.mark.parametrize(
    ("view", "message"), [(views.simulated, m.SimulateSchedule), (views.previewed, m.PreviewSchedule)]
)
def test_a_long_view_outlasts_the_patience_with_idle_transactions(servers: Servers, view: Any, message: Any) -> None:
    minutes = {"schedule_type": "cron", "cron_expression": "* * * * *", "windows": ["MON-FRI 08:00-18:00"]}
    command = message.parse({"definition": minutes, "start": "2027-03-01T00:00:00Z", "end": "2027-04-01T00:00:00Z"})
    engine = create_engine(servers.new_database())
    with engine.connect() as db:
        db.execute(text("SET idle_in_transaction_session_timeout = 50"))
        db.commit()
        began = time.monotonic()
        assert view(db, command, 300)["total"] == 31 * 24 * 60
        assert time.monotonic() - began > 0.1, "longer than that patience"
        slots.clock(db)
    engine.dispose()
