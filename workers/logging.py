"""Log lines of every process: JSON for machines, one readable line on a terminal (I-13).

A JSON line has ``timestamp`` (UTC, milliseconds), ``level``, ``logger``, ``message``, ``process``,
``pid``, inside a task ``task_id``, ``task_name`` and ``session_id`` when the task is about one
session, and whatever a caller passed as ``extra`` (for example ``session_id``, ``event_name``).
Answers and arguments of tasks are never written: they are the callers' data.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from celery import current_task, signals

from workers.settings import Settings

_BUILT_IN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
_RESULT = ": %(return_value)s"


def configure_logging(settings: Settings, process: str, stream: TextIO | None = None) -> None:
    """Send everything at ``log_level`` and above to ``stream`` (default stderr), replacing other handlers.

    ``process`` names this process in each line, for example ``relay`` or ``sessions@host``.
    """
    stream = stream if stream is not None else sys.stderr
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.addFilter(_without_results)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter(process))
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    if settings.log_level == "INFO":
        # "received" doubles the lines of a busy worker; the line at the end of a task tells the same.
        logging.getLogger("celery.worker.strategy").setLevel("WARNING")


def connect_celery(settings: Settings, process: str = "celery") -> None:
    """Make Celery's processes use :func:`configure_logging` in place of their own set-up.

    The setting ``log_level`` decides, not ``--loglevel``. A worker is named by its node name.
    """
    name = [process]

    def remember(sender: str, **_: Any) -> None:
        name[0] = sender

    def configure(**_: Any) -> None:
        configure_logging(settings, name[0])

    # weak=False: nothing else keeps these functions alive.
    signals.celeryd_init.connect(remember, weak=False)
    signals.setup_logging.connect(configure, weak=False)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _instant(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "process": self.process,
            "pid": record.process,
            **_context(record),
        }
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Local time, level, logger, message, then the context in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        clock = _instant(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        context = " ".join(f"{key}={value}" for key, value in _context(record).items())
        line = f"{clock} {record.levelname:<8} {record.name}: {_message(record)}"
        if context:
            line += f" [{context}]"
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def _instant(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a bad log call must not become a second failure
        return f"{record.msg!r} % {record.args!r}"


def _context(record: logging.LogRecord) -> dict[str, Any]:
    context = _task() | _celery_data(record)
    context.update({key: value for key, value in vars(record).items() if key not in _BUILT_IN})
    return {key: value for key, value in context.items() if value is not None}


def _task() -> dict[str, Any]:
    if not current_task:
        return {}
    request = current_task.request
    arguments = request.kwargs if isinstance(request.kwargs, dict) else {}
    return {
        "task_id": request.id,
        "task_name": current_task.name,
        "session_id": arguments.get("session_id"),
    }


def _celery_data(record: logging.LogRecord) -> dict[str, Any]:
    """What Celery attaches to its own lines on a task, which it writes outside the task."""
    data = vars(record).get("data")
    if not record.name.startswith("celery.") or not isinstance(data, dict):
        return {}
    return {"task_id": data.get("id"), "task_name": data.get("name"), "runtime": data.get("runtime")}


def _without_results(record: logging.LogRecord) -> bool:
    if record.name == "celery.app.trace" and isinstance(record.msg, str) and record.msg.endswith(_RESULT):
        record.msg = record.msg.removesuffix(_RESULT)
    return True
