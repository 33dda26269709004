"""Which operations of a batch belong together."""

from __future__ import annotations

from uuid import UUID

from sessionfleet.messages import Touch
from sessions import lifecycle
from sessions.change import Operation
from sessions.store.loader import by_keys
from sessions.wholes import wholes
from tests.support.records import record

ONE = record(id=str(UUID(int=0xA1)), external_id="one")
TWO = record(id=str(UUID(int=0xB2)), external_id="two")
RECORDS = by_keys([ONE, TWO])


def operation(session_key: str | None, key: str, second_key: str | None = None) -> Operation:
    return Operation(
        name="session.touch",
        message=Touch(session_id="any"),
        verb=lifecycle.touch,
        task_id="t",
        session_key=session_key,
        key=key,
        second_key=second_key,
    )


def test_all_names_of_a_session_are_one_session() -> None:
    names = [ONE.id, "two", "one", ONE.id.upper(), TWO.id]
    operations = [operation(name, str(place)) for place, name in enumerate(names)]
    assert wholes(operations, RECORDS, "session") == [[0, 2, 3], [1, 4]]


def test_a_session_to_be_made_goes_by_what_it_is_given() -> None:
    made = UUID(int=0xC3)
    operations = [
        operation("new", "0"),
        operation(str(made), "1", "other"),
        operation("new", "2"),
        operation(str(made).upper(), "3"),
        operation("other", "4"),
        operation(None, "5"),
    ]
    assert wholes(operations, RECORDS, "session") == [[0, 2], [1, 3, 4], [5]]


def test_one_key_joins_two_sessions() -> None:
    operations = [operation("one", "k"), operation("new", "1"), operation("two", "k"), operation(TWO.id, "3")]
    assert wholes(operations, RECORDS, "session") == [[0, 2, 3], [1]]


def test_whatever_joins_late_is_one_whole() -> None:
    """Two groups that grew by themselves and turn out to be one, each name of either found again."""
    operations = [
        operation("one", "a"),
        operation("two", "b"),
        operation(ONE.id, "c"),
        operation(TWO.id, "d"),
        operation(None, "e"),
        operation("two", "c"),
        operation(None, "d"),
        operation("one", "f"),
    ]
    assert wholes(operations, RECORDS, "session") == [[0, 1, 2, 3, 5, 6, 7], [4]]


def test_the_batch_and_the_operation() -> None:
    operations = [operation("one", "0"), operation("two", "1"), operation("one", "2")]
    assert wholes(operations, RECORDS, "batch") == [[0, 1, 2]]
    assert wholes(operations, RECORDS, "operation") == [[0], [1], [2]]
