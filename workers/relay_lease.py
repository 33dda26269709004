"""Holding the relay's lease while its work goes on (row D-08)."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from sessions import leadership
from sessions.outbox import NAME, Leader

log = logging.getLogger(__name__)

LIFE = 4.0
"""Seconds a lease lives without renewal; a stand-by looks twice a second, so it leads within 5 (D-08)."""

RENEW_EVERY = 1.0

PATIENCE = 30.0
"""Seconds without progress after which the lease is no longer renewed: this process hangs."""


class HeldLease:
    """A lease that was taken, renewed by a thread of its own so that a slow step does not lose it.

    As context manager; gives the lease back at the end, so a stand-by takes over at once. A process that is
    stopped renews nothing and learns at its next :meth:`is_held` that it leads no more.
    """

    def __init__(self, engine: Engine, leader: Leader, taken_at: float, life: float = LIFE) -> None:
        """``taken_at``: monotonic clock before the lease was taken."""
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._leader = leader
        self._life = life
        self._valid_until = taken_at + life
        self._progress_at = time.monotonic()
        self._lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        try:
            with self._engine.connect() as db:
                leadership.release(db, NAME, self._leader.holder, self._leader.epoch)
        except SQLAlchemyError as failure:
            log.warning("the lease was not given back, it ends by itself: %s", failure)

    def is_held(self) -> bool:
        """Whether this process still leads. Asks PostgreSQL when the lease may have run out; while
        PostgreSQL is away the answer is yes, as nobody else can lead either."""
        self._progress_at = time.monotonic()
        if not self._lost and time.monotonic() >= self._valid_until:
            self._renew()
        return not self._lost

    def _keep(self) -> None:
        while not self._lost and not self._done.wait(RENEW_EVERY):
            if time.monotonic() - self._progress_at > PATIENCE:
                log.error("the relay makes no progress, its lease is left to a stand-by")
                return
            self._renew()

    def _renew(self) -> None:
        asked_at = time.monotonic()
        leader = self._leader
        try:
            with self._engine.connect() as db:
                kept = leadership.renew(db, NAME, leader.holder, leader.epoch, self._life)
        except SQLAlchemyError:
            return  # whoever works with PostgreSQL reports that it is away
        if kept:
            self._valid_until = asked_at + self._life
        else:
            self._lost = True
