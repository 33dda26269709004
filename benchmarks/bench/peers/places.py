"""Where the servers of the run are, as each driver wants to hear it."""

from __future__ import annotations

import os

from sqlalchemy import make_url

BROKER = os.environ.get("BENCH_PEERS_BROKER", "")
"""A Valkey database of the peers alone."""

RESULTS = os.environ.get("BENCH_PEERS_RESULTS", "")

FLEET = os.environ.get("BENCH_DATABASE", "")
"""The fleet's database, for the bare statement."""


def peers_database(driver: str = "postgresql") -> str:
    """The peers' own database on the same server; ``postgresql`` is what libpq takes."""
    url = make_url(os.environ["BENCH_PEERS_DATABASE"]).set(drivername=driver)
    return url.render_as_string(hide_password=False)
