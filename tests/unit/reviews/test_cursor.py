"""Keyset cursors of lists and history."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews import cursor
from sessionfleet.errors import ValidationFailed


@given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=50))
def test_a_cursor_comes_back_as_it_was(instant: datetime, word: str) -> None:
    assert cursor.decode(cursor.encode(instant, word)) == (instant, word)


@pytest.mark.parametrize("text", ["", "x", "####", "bnVsbA", "WzEsMl0", "é", "W10"])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed, match="cursor"):
        cursor.decode(text)
