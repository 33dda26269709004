"""Table ``session_events``: what happened, in order; at the same time the outbox (rows D-01, D-02).

Partitioned by month of ``created_at`` (J-01). ``(xid, id)`` is commit-safe reading order for the
relay: it reads rows whose stamp is older than every open transaction. The stamp ``xid`` is the
writer's transaction or, if newer, the latest that had ended when the row was written: a writer that
waited for its session's lock may have the older number, yet its events come later. So within a
session ``(xid, id)`` rises with ``seq``, which is why nobody may set the two by hand. ``event_type``
is the wire type of R-04, ``event_name`` the canonical name.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from models.base import Base, BigInt, Instant, Json, TextList


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id; drivers read it as text."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


class SessionEvent(Base):
    """One event; ``seq`` is contiguous from 1 within its session."""

    __tablename__ = "session_events"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[BigInt] = mapped_column(primary_key=True)
    created_at: Mapped[Instant] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    event_name: Mapped[str]
    event_type: Mapped[str]
    actor: Mapped[str | None]
    task_id: Mapped[str | None]
    payload: Mapped[Json]
    metadata_: Mapped[Json] = mapped_column("metadata")
    entity_ids: Mapped[TextList]
    version: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    publish: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    xid: Mapped[str] = mapped_column(Xid8, server_default=text("event_stamp()"))
    id: Mapped[int] = mapped_column(BigInteger, server_default=text("nextval('session_events_id_seq')"))

    __table_args__ = (
        Index("ix_session_events_xid_id", "xid", "id"),
        Index("ix_session_events_event_name_created_at", "event_name", "created_at"),
        Index("ix_session_events_created_at", "created_at"),
        Index("ix_session_events_entity_ids", "entity_ids", postgresql_using="gin"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )
