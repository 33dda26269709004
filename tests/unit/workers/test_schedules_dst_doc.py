"""docs/schedules-dst.md is what the recurrence computes (AT-H2, H-02, H-05, H-17)."""

from __future__ import annotations

from workers.schedules_dst_doc import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m workers.schedules_dst_doc"
