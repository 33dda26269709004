"""Names in Redis that client and workers share, beside those of Celery."""

from __future__ import annotations

BELL = "_fleet.bell."
"""The bell list of a queue is this and the queue's name; whoever pushes to it wakes one idle worker."""

BELL_LIFE_MS = 60_000
"""A bell nobody listens to goes by itself."""

BUSY = "_fleet.busy."
"""This and the queue's name exists while a worker that has just taken few messages will soon be back for more."""

RING = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[1], '1')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
"""
"""Script: rings (key 1, BELL_LIFE_MS) unless somebody will soon be back (key 2). Two workers with a message each cost
more, and on a busy machine take longer, than one with both."""

REPLIES = "_fleet.reply."
"""Channel of one client's answers: this and the client's mark. A message is a JSON list of answers, each in the shape
of a stored Celery result; of a large one only ``task_id`` and the status LARGE."""

LARGE = "LARGE"
"""Instead of its state, of an answer that is not in the message: its copy lies ready."""

ANSWER = "_fleet.answer."
"""Key of the copy of one answer, for ANSWER_SECONDS: this and the task id."""

ANSWER_SECONDS = 30
"""How long an answer whose message was missed lies ready. After that a write's is in PostgreSQL, under its key."""


def list_of(queue: str, step: int) -> str:
    """The list of a queue for one priority step (0, 3, 6, 9), as kombu names it."""
    return f"{queue}\x06\x16{step}" if step else queue
