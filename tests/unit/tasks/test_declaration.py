"""The one way to declare a task (R-07, R-11, R-12): what a body may do, and what it may raise."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from pydantic import model_validator
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import tasks.all  # noqa: F401 - declares every task
from sessionfleet import messages as m
from sessionfleet.errors import FleetError, Internal, SessionNotFound, Unavailable, ValidationFailed
from sessionfleet.messages.base import CATALOGUE, Duty, Message, Write
from sessions import lifecycle
from tasks import base
from workers.resources import build_runtime
from workers.settings import Settings

ROOT = Path(__file__).parents[3]


class Probe(Duty):
    """A message without a wire name: in no catalogue."""

    number: int = 0


class Look(Message):
    session_id: str


def settings() -> Settings:
    return Settings.load({}, database_url="postgresql://nobody@127.0.0.1:1/none", redis_url="redis://127.0.0.1:1")


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose runtime connects at first use, which these tests never come to."""
    app = Celery("probe", set_as_current=False)
    runtime = build_runtime(settings(), lambda name, arguments: None, lambda answers: None)
    app.runtime = runtime
    yield app
    runtime.engine.dispose()
    runtime.owner_engine.dispose()


def probe(app: Celery, function: Any, kind: Any = "duty", message: type[Message] = Probe) -> Any:
    """A registered task over ``function``."""
    declaration = base.Declaration(message, kind, function)
    return app.register_task(type("probe", (base.FleetTask,), {"name": "probe", "declaration": declaration})())


def test_every_operation_of_the_catalogue_has_its_task_and_the_other_way_round() -> None:
    """R-12."""
    assert base.DECLARED.keys() == CATALOGUE.keys()
    assert all(base.DECLARED[name].message is CATALOGUE[name] for name in CATALOGUE)


def test_writes_are_operations_or_commands_reads_are_queries() -> None:
    kinds = {"read": {"query"}, "write": {"operation", "batch", "command"}, "duty": {"duty"}}
    for name, declaration in base.DECLARED.items():
        assert declaration.kind in kinds[declaration.message.kind], name
        assert issubclass(declaration.message, Write) == (declaration.message.kind == "write"), name


def test_a_batch_takes_exactly_the_operations_on_one_session() -> None:
    for name, declaration in base.DECLARED.items():
        try:
            m.Apply.parse({"operations": [{"name": name, "arguments": {}}]})
            refused = False
        except ValidationFailed as error:
            refused = error.details["fields"][0]["field"] == "operations.0.name"
        assert refused == (declaration.kind != "operation"), name


def test_a_name_is_declared_once() -> None:
    with pytest.raises(TypeError, match=r"session\.pause"):
        base.operation(m.Pause, lifecycle.pause)


def test_registering_makes_a_task_of_every_declaration(app: Celery) -> None:
    base.register(app)
    assert base.DECLARED.keys() <= app.tasks.keys()
    task = app.tasks["session.pause"]
    assert (task.ignore_result, task.__doc__, task.max_retries) == (False, m.Pause.__doc__, 3)
    assert task.throws == (FleetError,)


def test_the_function_behind_a_declaration_stays_plain() -> None:
    from tasks.maintenance import in_batches, timeout_warnings

    assert callable(timeout_warnings)
    assert base.DECLARED["maintenance.timeout_warnings"].function is timeout_warnings
    assert in_batches.__module__ == "tasks.maintenance"


@pytest.mark.parametrize("module", sorted((ROOT / "tasks").glob("*.py")), ids=lambda path: path.stem)
def test_a_shim_has_at_most_15_lines(module: Path) -> None:
    """Delivery only: what decides lives in a domain room."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef) and any(_declares(each) for each in node.decorator_list):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 15, node.name


def _declares(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") in ("command", "query", "duty")


def test_arguments_are_checked_before_anything_runs(app: Celery) -> None:
    calls: list[Any] = []
    task = probe(app, lambda runtime, command: calls.append(command.number) or "done")
    assert task.run(number=7) == "done"
    for args, kwargs in [((1,), {}), ((), {"number": "x"}), ((), {"nonsense": 1})]:
        with pytest.raises(ValidationFailed) as refused:
            task.run(*args, **kwargs)
        assert refused.value.details["fields"]
    assert calls == [7]


class Thorny(Duty):
    """Its rule is itself broken."""

    number: int = 0

    @model_validator(mode="before")
    @classmethod
    def _broken(cls, data: Any) -> Any:
        raise KeyError("a defect")


def test_a_defect_in_the_rules_of_a_message_is_typed_too(app: Celery) -> None:
    with pytest.raises(Internal):
        probe(app, lambda *_: None, message=Thorny).run(number=1)


def test_a_body_knows_its_task(app: Celery) -> None:
    task = probe(app, lambda runtime, command: [runtime.task_id, runtime.task_name])
    assert task.apply(task_id="id-1").get() == ["id-1", "probe"]


ORIGINAL = Exception("server closed the connection unexpectedly\n\tmore")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (SessionNotFound(session_id="s"), SessionNotFound),
        (OperationalError("SELECT", {}, ORIGINAL), Unavailable),
        (InterfaceError("SELECT", {}, ORIGINAL), Unavailable),
        (PoolTimeout("QueuePool limit"), Unavailable),
        (DataError("SELECT", {}, ORIGINAL, connection_invalidated=True), Unavailable),
        (DataError("SELECT", {}, ORIGINAL), Internal),
        (ValueError("a defect"), Internal),
        (MemoryError(), Internal),
    ],
)
def test_whatever_happens_a_caller_gets_a_typed_error(
    app: Celery, raised: Exception, kind: type, caplog: Any
) -> None:
    """R-07: the traceback of a defect is in the log, not in the answer."""

    def body(runtime: Any, command: Any) -> None:
        raise raised

    with pytest.raises(FleetError) as refused:
        probe(app, body).run()
    assert type(refused.value) is kind
    assert "a defect" not in str(refused.value.shape())
    assert ("task failed" in caplog.text) == (kind is Internal)
    if kind is Internal:
        assert type(raised).__name__ in caplog.text


def test_what_is_not_available_is_named_without_its_address() -> None:
    """A-12."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    engine = create_engine(f"postgresql+psycopg2://who:secret@127.0.0.1:{port}/x", poolclass=NullPool)
    with pytest.raises(OperationalError) as refused, engine.connect() as db:
        db.execute(text("SELECT 1"))
    error = base.unavailable(refused.value)
    assert error.retryable
    assert error.details["reason"].startswith("Connection refused")
    for secret in ("127.0.0.1", str(port), "secret", "who"):
        assert secret not in str(error.shape())


def test_a_cached_answer_needs_no_database(app: Celery) -> None:
    """B-10: only when the cache has none is PostgreSQL asked."""
    runtime = app.runtime
    asked: list[str] = []

    def cached(_: Any, command: Look) -> Any:
        asked.append(command.session_id)
        return {"from": "cache"}

    declaration = base.Declaration(Look, "query", lambda *_: pytest.fail("asked"), cached=cached)
    assert base.execute(declaration, runtime, Look(session_id="s")) == {"from": "cache"}
    miss = base.Declaration(Look, "query", lambda *_: pytest.fail("asked"), cached=lambda *_: None)
    with pytest.raises(OperationalError):
        base.execute(miss, runtime, Look(session_id="s"))
    assert asked == ["s"]


def test_an_operation_knows_its_session_and_its_key() -> None:
    """A-02, B-13: either id of a create, the task id where no key is given."""
    id_ = uuid4()

    def keys(name: str, **arguments: Any) -> tuple[str | None, str | None, str]:
        message: Any = CATALOGUE[name].parse(arguments)
        [operation] = base.batch_of(base.DECLARED[name], "task-7", message).operations
        assert operation.task_id == "task-7"
        return operation.session_key, operation.second_key, operation.key

    assert keys("session.pause", session_id="s") == ("s", None, "task-7")
    assert keys("session.pause", session_id="s", idempotency_key="k") == ("s", None, "k")
    assert keys("session.create") == (None, None, "task-7")
    assert keys("session.create", external_id="x") == ("x", None, "task-7")
    assert keys("session.create", id=str(id_).upper()) == (str(id_), f"sess-{id_}", "task-7")
    assert keys("session.create", id=str(id_), orchestrator_id="o") == (str(id_), None, "task-7")
    assert keys("session.create", id=str(id_), external_id="x") == (str(id_), "x", "task-7")
    assert UUID(str(id_)) == id_
