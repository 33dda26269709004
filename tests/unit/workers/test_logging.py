"""Log lines: JSON with task and session, text on a terminal, no callers' data (I-13)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery

from workers.logging import configure_logging
from workers.settings import Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    strategy = logging.getLogger("celery.worker.strategy")
    before = root.handlers[:], root.level, strategy.level
    yield
    root.handlers, root.level = before[0], before[1]
    strategy.setLevel(before[2])
    logging.captureWarnings(False)


def configured(stream: io.StringIO, **settings: Any) -> io.StringIO:
    configure_logging(Settings.load({}, **settings), "relay", stream)
    return stream


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


def test_a_line_is_one_json_object_with_its_extras() -> None:
    out = configured(io.StringIO())
    logging.getLogger("fanout").warning(
        "two\nlines of %s",
        "é",
        extra={"session_id": "s1", "event_name": "session.created", "at": datetime(2026, 1, 1, tzinfo=UTC)},
    )
    line = only_line(out)
    assert line["message"] == "two\nlines of é"
    assert (line["level"], line["logger"], line["process"]) == ("WARNING", "fanout", "relay")
    assert (line["session_id"], line["event_name"]) == ("s1", "session.created")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
    assert isinstance(line["pid"], int)


def test_an_exception_keeps_its_traceback_in_the_line() -> None:
    out = configured(io.StringIO())
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("x").exception("failed")
    assert only_line(out)["exception"].endswith("LookupError: gone")


def test_inside_a_task_the_line_names_task_and_session() -> None:
    app = Celery("test", set_as_current=False, broker="memory://", backend="cache+memory://")

    def probe(session_id: str) -> None:
        logging.getLogger("sessions").info("inside")

    task = app.task(name="session.probe", shared=False)(probe)
    out = configured(io.StringIO())
    task.apply(kwargs={"session_id": "s9"}, task_id="t9")
    inside = next(json.loads(line) for line in out.getvalue().splitlines() if "inside" in line)
    assert (inside["task_id"], inside["task_name"], inside["session_id"]) == ("t9", "session.probe", "s9")


def test_celerys_own_lines_name_the_task_but_not_its_answer() -> None:
    out = configured(io.StringIO())
    logger = logging.getLogger("celery.app.trace")
    context = {"id": "t1", "name": "session.get", "runtime": 0.5, "return_value": "{'secret': 1}"}
    logger.info("Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s", context, extra={"data": context})
    line = only_line(out)
    assert line["message"] == "Task session.get[t1] succeeded in 0.5s"
    assert (line["task_id"], line["task_name"], line["runtime"]) == ("t1", "session.get", 0.5)
    assert "secret" not in out.getvalue()


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
    ],
)
def test_a_terminal_gets_text(log_format: str, stream: type[io.StringIO], is_json: bool) -> None:
    out = configured(stream(), log_format=log_format)
    logging.getLogger("x").error("hello", extra={"session_id": "s1"})
    assert out.getvalue().startswith("{") is is_json
    if not is_json:
        assert out.getvalue().rstrip().endswith("ERROR    x: hello [session_id=s1]")


def test_the_level_of_the_settings_decides() -> None:
    out = configured(io.StringIO(), log_level="ERROR")
    logging.getLogger("x").warning("not this")
    assert out.getvalue() == ""


def test_a_bad_log_call_is_still_a_line() -> None:
    out = configured(io.StringIO())
    logging.getLogger("x").error("%d apples", "many")
    assert "apples" in only_line(out)["message"]
