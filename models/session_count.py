"""Table ``session_counts``: how many sessions there are, without counting them (row Q-03).

Every change of how many sessions have a status is a row of its own, written by a trigger of ``sessions``, so no two
writers wait for each other. The sums over all rows are the numbers of sessions that are not deleted, in any snapshot;
``maintenance.sum_counts`` makes one row of many.
"""

from __future__ import annotations

from sqlalchemy import Identity
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt


class SessionCount(Base):
    """So many sessions more, or fewer, of a status, archived or not."""

    __tablename__ = "session_counts"

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    status: Mapped[str]
    archived: Mapped[bool]
    change: Mapped[BigInt]
