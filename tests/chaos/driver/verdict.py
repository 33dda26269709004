"""What must be true after a run, read from PostgreSQL alone (invariants I1, I2, I4, I5, I7, I8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from sessionfleet.words import TERMINAL
from sessions.machine import MOVES
from tasks.deliveries import CAP
from tests.chaos.driver.journal import Journal, Sent, digest
from tests.chaos.driver.readers import Reader
from tests.support.agreement import CHECKS

_EFFECTS = text("""
    SELECT actor, count(DISTINCT (metadata ->> 'task_id', timestamp)) AS effects,
        extract(epoch FROM min(timestamp)) AS at
    FROM audit_events WHERE actor LIKE :run GROUP BY actor
""")
_ANSWERS = text("SELECT key, answer FROM idempotency_keys")
_EVENTS = text("""
    SELECT e.session_id::text AS session_id, e.seq, e.event_id::text AS event_id, e.actor
    FROM session_events e JOIN sessions s ON s.id = e.session_id WHERE s.owner_id = :mark ORDER BY e.session_id, e.seq
""")
_MOVES = text("""
    SELECT DISTINCT t.from_status, t.to_status FROM session_transitions t JOIN sessions s ON s.id = t.session_id
    WHERE s.owner_id = :mark AND t.from_status IS NOT NULL
""")
_REPEATED_OUTPUT = text("""
    SELECT content, count(*) AS times FROM session_output WHERE content LIKE :run GROUP BY content HAVING count(*) > 1
""")
_COUNTS = text("""
    SELECT (SELECT count(*) FROM event_dead_letters) AS events,
        (SELECT count(*) FROM message_dead_letters) AS messages,
        (SELECT count(*) FROM message_dead_letters WHERE raw IS NULL) AS without_bytes,
        (SELECT coalesce(max(deliveries), 0) FROM message_deliveries) AS deliveries
""")


@dataclass
class Verdict:
    """Findings, each a line that says where to look; all lists empty is a pass."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    events_lost: list[str] = field(default_factory=list)
    events_doubled: list[str] = field(default_factory=list)
    events: int = 0
    followed: int = 0
    put_away: int = 0
    deliveries: int = 0
    delays: list[tuple[float, str]] = field(default_factory=list)
    """Seconds from the first sending of each write to its effect, and which it was."""

    @property
    def passed(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.events_lost or self.events_doubled)


def judge(
    db: Connection, journal: Journal, lives: Iterable[tuple[str, list[str]]], readers: Iterable[Reader]
) -> Verdict:
    """Compares what senders and readers saw with what is stored."""
    found = Verdict()
    _writes(db, journal, found)
    events = _events(db, journal.run)
    found.events = sum(map(len, events.values()))
    for session_id, marks in lives:
        stored = [actor for _, _, actor in events.get(session_id, [])]
        if stored != marks:
            found.wrong.append(f"session {session_id} lived {marks}, stored is {stored}")
    for reader in readers:
        _reader(reader, [(seq, event_id) for seq, event_id, _ in events.get(reader.session_id, [])], found)
    _rules(db, journal.run, found)
    return found


def _writes(db: Connection, journal: Journal, found: Verdict) -> None:
    effects = {row.actor: (row.effects, float(row.at)) for row in db.execute(_EFFECTS, {"run": f"{journal.run}.%"})}
    answers = {row.key: digest(row.answer) for row in db.execute(_ANSWERS) if isinstance(row.answer, dict)}
    for entry in journal.everything():
        count, at = effects.get(entry.mark, (0, 0.0))
        if count:
            found.delays.append((at - entry.sent_at, _name(entry)))
        if count > 1:
            found.doubled.append(f"{_name(entry)} has {count} effects")
        if entry.outcome in ("answered", "accepted") and (not count or entry.key not in answers):
            found.lost.append(
                f"{_name(entry)} has {count} effects and {'an' if entry.key in answers else 'no'} answer"
            )
        elif entry.outcome == "answered" and answers[entry.key] != entry.digest:
            found.wrong.append(f"{_name(entry)} was answered otherwise than is stored")
        elif entry.outcome == "open":
            found.wrong.append(f"{_name(entry)} was never answered: {entry.error}")
    found.doubled += [f"{row.content!r} stands {row.times} times" for row in _repeated(db, journal.run)]


def _repeated(db: Connection, run: str) -> list:
    return list(db.execute(_REPEATED_OUTPUT, {"run": f"{run}.%"}))


def _name(entry: Sent) -> str:
    ids = f"key {entry.key}, task {entry.task_id or '-'}"
    return f"{entry.mark} {entry.name} ({ids}, {entry.tries} tries, {entry.outcome})"


def _events(db: Connection, run: str) -> dict[str, list[tuple[int, str, str]]]:
    events: dict[str, list[tuple[int, str, str]]] = {}
    for row in db.execute(_EVENTS, {"mark": run}):
        events.setdefault(row.session_id, []).append((row.seq, row.event_id, row.actor))
    return events


def _reader(reader: Reader, stored: list[tuple[int, str]], found: Verdict) -> None:
    seen = [(event.seq, event.event_id) for event in reader.seen]
    found.followed += len(seen)
    counted = Counter(seen)
    where = f"reader of {reader.session_id}"
    found.events_lost += [f"{where} missed {one}" for one in stored if one not in counted]
    found.events_doubled += [f"{where} has {one} {times} times" for one, times in counted.items() if times > 1]
    if seen != sorted(seen):
        found.wrong.append(f"{where} saw events out of order")
    if reader.failure is not None:
        found.wrong.append(f"{where} ended with {reader.failure!r}")


def _rules(db: Connection, run: str, found: Verdict) -> None:
    parameters = {"mark": run, "terminal": sorted(TERMINAL)}
    for rule, statement in CHECKS.items():
        found.wrong += [f"not so: {rule}: session {row[0]}" for row in db.execute(text(statement), parameters)]
    for row in db.execute(_MOVES, {"mark": run}):
        if row.to_status not in MOVES[row.from_status]:
            found.wrong.append(f"a session went from {row.from_status} to {row.to_status}")
    counts = db.execute(_COUNTS).one()
    found.put_away, found.deliveries = counts.messages, counts.deliveries
    if counts.events:
        found.events_lost.append(f"{counts.events} events in event_dead_letters")
    if counts.without_bytes:
        found.wrong.append(f"{counts.without_bytes} letters have no bytes")
    if counts.deliveries > CAP + 1:
        found.wrong.append(f"a message was delivered {counts.deliveries} times, the cap is {CAP}")
