"""What two uses of one idempotency key must share (B-13): digests live for a day and across releases."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet.jsontext import canonical
from sessionfleet.messages import message_type
from sessions.unit import digest

ID = "7b0f0f0c-0000-4000-8000-000000000001"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (
        "session.update",
        {"session_id": ID, "context": {"b": [1, 2.5, None], "a": {"ü": True}}, "actor": "me"},
    ),
    "a set of names": (
        "session.update",
        {"session_id": ID, "tags": ["b", "a"], "status": "active", "mode": "append"},
    ),
    "a change of a set": ("session.update", {"session_id": ID, "account_ids": {"add": ["x"]}, "priority": "normal"}),
    "unknown arguments": ("session.update_context", {"session_id": ID, "current_batch": 2, "free": {"n": 1}}),
    "beyond 64 bits": ("session.update", {"session_id": ID, "metadata": {"n": 2**70}, "expected_version": 3}),
    "a uuid": ("session.create", {"id": ID.upper(), "external_id": "e", "timeout_seconds": 60.0}),
    "models": (
        "session.emit_event",
        {"session_id": ID, "type": "x", "change_info": {"elementType": "f", "operation": "edit"}},
    ),
    "an instant": ("schedule.backfill", {"schedule_id": "s", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02"}),
}
DIGESTS: dict[str, str] = {
    "plain": "f26bb7fa715cab3fbe65f6bd418d507d8e864d671b36eeaddee42ece4e02e69a",
    "a set of names": "6486bec15de772f02c5920367374adacc9e2dfb0e5480a27a45a290fd03e98a7",
    "a change of a set": "374557f9516d50ba32cc54a223b667d62248dfc692ec125fd8e0423a0947f9da",
    "unknown arguments": "1288b2a35c01822727d7d442a58c35c87e98bb08459029503fc0e8e2ad9c33dc",
    "beyond 64 bits": "8bd10b1f4027696da479869f10c42d4e4d126445f42cea3f10f824762cc13331",
    "a uuid": "9ae1f098fdeca29a0c7fe6c55a86035d2dd1ed1e8da366ce8a5d7ab979dc5996",
    "models": "dbd38e55b452ef75aeb1876a7b72b92e567e8831c5b5314bb3b003e6bd822a55",
    "an instant": "1e8b5319ffc9eae4a0313bb3c4805485d615ab9ad9a8b2c67a5cb18cfff3a117",
}


@pytest.mark.parametrize("call", CALLS)
def test_the_digest_is_that_of_earlier_releases(call: str) -> None:
    """A repeat that another release answers first is no conflict; key and deadline are no part of it."""
    name, arguments = CALLS[call]
    kind = message_type(name)
    assert digest(name, kind.parse(arguments)) == DIGESTS[call]
    called = {"idempotency_key": "k", "deadline_at": "2026-01-01T00:00:00Z"}
    assert digest(name, kind.parse({**arguments, **called})) == DIGESTS[call]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aü🚀/"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=3), st.lists(st.text("ab", min_size=1), max_size=2)
)
def test_it_is_that_of_the_body_as_json(context: dict[str, Any], tags: list[str]) -> None:
    """Whichever way the canonical text is made."""
    for arguments in ({"context": context}, {"metadata": context, "tags": tags}):
        message = message_type("session.update").parse({"session_id": ID, **arguments})
        body = canonical(["session.update", message.body()])
        assert digest("session.update", message) == hashlib.sha256(body).hexdigest()
