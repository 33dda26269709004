"""The client's message beside the one Celery's own producer writes (rows P-11, R-11); a stock worker takes it in
``tests/integration/broker/test_envelope_of_client.py``."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Channel
from kombu.utils.encoding import bytes_to_str

from broker import shapes
from broker.channel import read
from broker.collecting import UNCOMMON, plain_arguments
from sessionfleet import AsyncFleet, envelope
from sessionfleet.envelope import message_of
from sessionfleet.errors import ValidationFailed
from sessionfleet.request import Request, prepare

LEFT_OUT = {"shadow", "group_index", "replaced_task_nesting", "stamped_headers", "stamps"}
"""Headers of Celery that say nothing when they are empty, as in a message of one plain task."""

CHANNEL = "_fleet.reply.abc"


def parts(request: Request, reply_to: str | None = CHANNEL) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message_of(request, reply_to))
    return found


def request(**arguments: Any) -> Request:
    return prepare(str(uuid4()), "session.create", arguments, message_priority="high")


def of_celery(one: Request) -> dict[str, Any]:
    """The same task as Celery and kombu write it."""
    app = Celery("stock", broker="redis://nowhere.invalid", set_as_current=False)
    message = app.amqp.as_task_v2(one.task_id, one.name, args=(), kwargs=one.arguments, reply_to=CHANNEL)
    body = json.dumps(message.body)
    made: dict[str, Any] = Channel.prepare_message(
        Standing(), body, one.priority, "application/json", "utf-8", message.headers, message.properties
    )
    # What kombu adds at the publishing itself.
    made["properties"]["delivery_info"] |= {"exchange": one.queue, "routing_key": one.queue}
    return made


class Standing:
    """What kombu asks of the channel a message is made for."""

    default_priority = 0
    body_encoding = None

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        return body, encoding


def test_headers_are_those_of_celery() -> None:
    """Equal in all that is there; what is not there says nothing in Celery's either."""
    one = request(agent_id="a1", context={"ü": [1, None]})
    ours, theirs = parts(one)["headers"], of_celery(one)["headers"]
    assert set(theirs) - set(ours) == LEFT_OUT
    assert not any(theirs[name] for name in LEFT_OUT)
    own = {"argsrepr", "kwargsrepr", "origin"}  # for people; they may hold what nobody should see
    assert {name: value for name, value in ours.items() if name not in own} == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in theirs.items()
        if name not in own | LEFT_OUT
    }
    assert all(isinstance(ours[name], str) for name in own)


def test_body_and_properties_are_those_of_celery() -> None:
    one = request(agent_id="a1", context={"ü": [1, None]}, deadline_at="2026-11-26T12:00:00Z")
    ours, theirs = parts(one), of_celery(one)
    assert json.loads(ours["body"]) == json.loads(bytes_to_str(theirs["body"]))
    assert {name for name in theirs if name not in ours} == set()
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    for name in ("correlation_id", "reply_to", "priority", "delivery_info"):
        assert ours["properties"][name] == theirs["properties"][name], name


def test_workers_take_it_and_collect_it() -> None:
    """Nothing is wrong with it, and nothing in it asks for Celery's own way."""
    message, flaw = read(message_of(request(context={"a": 1}), CHANNEL))
    assert (flaw, shapes.flaw(message)) == (None, None)
    assert not any(map(message["headers"].get, UNCOMMON))
    assert not any(message["headers"]["timelimit"])


class Delivered:
    """As much of a kombu message as a collector reads."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.body = message["body"].encode()
        self.content_type, self.content_encoding = message["content-type"], message["content-encoding"]


@given(
    context=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.integers() | st.text(st.characters(exclude_categories=["Cs"])) | st.none() | st.booleans(),
        max_size=5,
    )
)
def test_any_arguments_arrive_as_they_were(context: dict[str, Any]) -> None:
    one = Request(str(uuid4()), "session.update", "sessions", {"session_id": "s", "context": context}, 6)
    delivered = Delivered(parts(one))
    if b"__type__" in delivered.body:
        return
    assert plain_arguments(delivered) == one.arguments


def test_who_waits_for_nothing_says_so() -> None:
    waiting, ignoring = parts(request()), parts(request(), None)
    assert (waiting["headers"]["ignore_result"], waiting["properties"]["reply_to"]) == (False, CHANNEL)
    assert (ignoring["headers"]["ignore_result"], ignoring["properties"]["reply_to"]) == (True, None)


def test_no_two_calls_have_one_delivery_tag() -> None:
    """Acknowledging one must never forget the other, also where both are the same operation."""
    client = AsyncFleet.connect("redis://nowhere.invalid")
    letters = [client.letter("session.touch", {"session_id": "s", "idempotency_key": "k"}) for _ in range(1000)]
    assert len({json.loads(one.payload)["properties"]["delivery_tag"] for one in letters}) == 1000


def test_python_values_of_raw_requests_have_their_json_form() -> None:
    identifier = UUID("12345678-1234-8234-8234-123456789abc")
    one = Request("t", "session.get", "sessions", {"session_id": identifier}, 6)
    assert json.loads(parts(one)["body"])[1] == {"session_id": str(identifier)}
    with pytest.raises(TypeError):
        message_of(Request("t", "session.get", "sessions", {"session_id": timedelta(1)}, 6), None)


def test_one_byte_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """B-08, P-11: what a worker would put away unread never leaves."""
    one = request(context={"a": "b"})
    monkeypatch.setattr(envelope, "LARGEST", len(message_of(one, CHANNEL)))
    message_of(one, CHANNEL)
    monkeypatch.setattr(envelope, "LARGEST", envelope.LARGEST - 1)
    with pytest.raises(ValidationFailed) as caught:
        message_of(one, CHANNEL)
    assert caught.value.details["fields"][0]["field"] == "arguments"
