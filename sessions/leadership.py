"""Who leads a duty that only one process may do: a row lease on the database clock (rows D-08, H-20).

A lease has an ``epoch`` that grows with every new leader. What a leader writes is fenced by it: the writes
of one that was paused and lost its lease match no row. Each function is one statement.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

_TAKE = text("""
    INSERT INTO leader_leases AS held (name, holder, epoch, expires_at)
    SELECT :name, :holder, 1, clock_timestamp() + make_interval(secs => :life)
    -- A stand-by that only looks must not lock the row or use up a transaction id.
    WHERE NOT EXISTS (SELECT FROM leader_leases WHERE name = :name AND expires_at > clock_timestamp())
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, epoch = held.epoch + 1, expires_at = excluded.expires_at
    WHERE held.expires_at <= clock_timestamp()
    RETURNING epoch
""")
_RENEW = text("""
    UPDATE leader_leases SET expires_at = clock_timestamp() + make_interval(secs => :life)
    WHERE name = :name AND holder = :holder AND epoch = :epoch
    RETURNING epoch
""")
_RELEASE = text("""
    UPDATE leader_leases SET expires_at = '-infinity'
    WHERE name = :name AND holder = :holder AND epoch = :epoch
""")
_HOLDER = text("SELECT holder FROM leader_leases WHERE name = :name AND expires_at > clock_timestamp()")


def take(db: Connection, name: str, holder: str, life: float) -> int | None:
    """Takes the lease if nobody holds it, for ``life`` seconds; answers the new epoch or None.

    ``holder`` names one process run, not a machine: a restarted process is another holder.
    """
    epoch: int | None = db.execute(_TAKE, {"name": name, "holder": holder, "life": life}).scalar()
    return epoch


def renew(db: Connection, name: str, holder: str, epoch: int, life: float) -> bool:
    """Extends the lease to ``life`` seconds from now; False when another process has taken it.

    A lease that ran out but that nobody took is still its holder's.
    """
    found = db.execute(_RENEW, {"name": name, "holder": holder, "epoch": epoch, "life": life})
    return found.first() is not None


def release(db: Connection, name: str, holder: str, epoch: int) -> None:
    """Gives the lease back at once; does nothing when it is no longer this holder's."""
    db.execute(_RELEASE, {"name": name, "holder": holder, "epoch": epoch})


def holder(db: Connection, name: str) -> str | None:
    """Who holds the lease now, or None."""
    found: str | None = db.execute(_HOLDER, {"name": name}).scalar()
    return found
