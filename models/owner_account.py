"""Table ``owner_accounts``: which accounts an owner answers for, and how risky each is (row H-15)."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Double, Identity
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant


class OwnerAccount(Base):
    """One account of an owner. ``risk_score`` is 0..100, NULL when nobody knows it; ``position`` grows in
    the order of assignment and stays as it is when the score changes."""

    __tablename__ = "owner_accounts"

    owner_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    risk_score: Mapped[float | None] = mapped_column(Double)
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    assigned_at: Mapped[Instant]
    updated_at: Mapped[Instant]

    __table_args__ = (CheckConstraint("risk_score BETWEEN 0 AND 100", name="risk_score"),)
