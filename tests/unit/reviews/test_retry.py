"""Back-off of failed runs (H-10)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reviews.retry import LONGEST, wait


@given(st.integers(1, 1440), st.integers(1, 21), st.text(max_size=40))
def test_the_wait_doubles_with_a_little_jitter_and_an_end(minutes: int, attempt: int, execution_id: str) -> None:
    plain = min(timedelta(minutes=minutes) * 2 ** (attempt - 1), LONGEST)
    assert plain <= wait(minutes, attempt, execution_id) <= plain * 1.1


def test_the_wait_of_one_attempt_is_always_the_same_and_others_differ() -> None:
    waits = {wait(5, 1, f"exec_{n}") for n in range(100)}
    assert len(waits) > 90
    assert waits == {wait(5, 1, f"exec_{n}") for n in range(100)}
    plain = {attempt: timedelta(minutes=2 ** (attempt - 1)) for attempt in range(1, 11)}
    shares = {round(wait(1, attempt, "exec_0") / alone, 5) for attempt, alone in plain.items()}
    assert len(shares) > 8
