"""docs/http.md names operations that exist, and every status an error can have (R-08)."""

from __future__ import annotations

import re
from pathlib import Path

from sessionfleet.errors import CODES
from sessionfleet.messages import CATALOGUE

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "http.md").read_text(encoding="utf-8")


def test_every_operation_on_the_page_exists() -> None:
    named = set(re.findall(r"\b(?:session|schedule|maintenance)\.[a-z_]+\b", PAGE))
    assert {"session.create", "session.update", "session.terminate"} <= named <= set(CATALOGUE)


def test_every_http_status_is_explained() -> None:
    explained = {int(number) for number in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    assert explained == {error.http_status for error in CODES.values()}
