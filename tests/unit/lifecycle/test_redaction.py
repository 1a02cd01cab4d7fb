"""Redacted arguments and results of tasks: plain, small, and without secrets."""

from __future__ import annotations

import json
import tracemalloc
from collections import deque
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.lifecycle.redaction import HIDDEN, are_whole, guarded_redact, redact
from sluice_agent.model import encode

MANY: list[Any] = ["leaf"] * 50
for _ in range(5):
    MANY = [MANY] * 50

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@pytest.mark.parametrize(
    "name",
    ["password", "user_password", "passwd", "api_key", "apikey", "Authorization", "access_token", "clientSecret",
     "card_number", "cvv", "session_id", "Cookie", "private_key"],
)  # fmt: skip
def test_a_value_under_a_secret_name_is_hidden(name: str) -> None:
    """A customer's password in a third party's database is the end of the monitoring, and of more."""
    assert redact("kwargs", {name: "hunter2", "nested": [{name: {"deep": "hunter2"}}]}) == {
        name: HIDDEN,
        "nested": [{name: HIDDEN}],
    }


@pytest.mark.parametrize(
    "text",
    ["Bearer abcdefgh12345678", "sk_live_12345678", "4111 1111 1111 1111", "paid with 4111111111111111 today",
     "postgres://user:hunter2@db/shop"],
)  # fmt: skip
def test_a_text_that_looks_like_a_secret_is_hidden(text: str) -> None:
    """Secrets travel as plain arguments, under no name at all."""
    [sent] = redact("args", [text])
    assert HIDDEN in sent
    assert not any(secret in sent for secret in ("abcdefgh", "12345678", "4111", "hunter2"))


@pytest.mark.parametrize(
    "harmless", ["order 4111111111111112", 4111111111111112, "tokenised", "passenger", 12, 1.5, None]
)
def test_a_harmless_value_stays(harmless: Any) -> None:
    """A redaction that hides everything is switched off by its users."""
    assert redact("args", [harmless]) == [harmless]


def test_a_card_number_is_hidden_as_a_number_too() -> None:
    """Some apps pass card numbers as integers."""
    assert redact("args", [4111111111111111]) == [HIDDEN]


@given(anything)
def test_any_argument_becomes_small_plain_json(value: Any) -> None:
    """A strange argument must not cost the event that carries it, nor fill the journal."""
    sent = redact("args", [value])
    assert json.loads(encode(sent)) is not None


def test_large_values_are_cut() -> None:
    """A task that is handed a megabyte would otherwise send it, for money."""
    sent = redact("args", ["x" * 1_000_000, list(range(10_000)), {"key": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}}])
    assert len(encode(sent)) < 3_000
    assert "[999000 characters cut]" in sent[0]


def test_an_object_of_a_users_class_is_named_and_its_repr_is_not_called() -> None:
    """Its repr is the user's code: of a set of query results it may be a query, of an image 100 MB."""

    class Order(list[int]):
        def __repr__(self) -> str:
            raise AssertionError("it is called")

        __iter__ = __len__ = __str__ = __repr__  # type: ignore[assignment]

    class Image:
        __repr__ = __str__ = __len__ = __iter__ = __class__ = property(Order.__repr__)  # type: ignore[assignment]

    assert redact("args", [Order([7]), Image()]) == [[7], "<Image>"]
    assert redact("kwargs", {Image(): {b"k": 1}}) == {"<Image>": {"b'k'": 1}}


LONG = 20_000_000


@pytest.mark.parametrize(
    "value",
    [b"x" * LONG, bytearray(LONG), "x" * LONG, 1 << (8 * LONG), {b"x" * LONG: "x" * LONG}, memoryview(b"x" * LONG),
     {"x" * LONG}, ("x" * LONG,) * 100, range(10**12), deque(range(100_000)), Decimal("1" * 1_000_000), MANY],
    ids=["bytes", "bytearray", "str", "int", "dict", "memoryview", "set", "tuple", "range", "deque", "decimal", "wide"],
)  # fmt: skip
@pytest.mark.parametrize("hook", [None, lambda _, value: value], ids=["default", "hook"])
def test_the_memory_used_does_not_grow_with_the_value(value: Any, hook: Any) -> None:
    """A worker of 500 MB would be killed for a look at a value of 100 MB."""
    tracemalloc.start()
    try:
        sent = guarded_redact(hook)("args", value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert len(encode(sent)) < 300_000


def test_a_hook_that_fails_hides_the_value_and_loses_no_event() -> None:
    """A bug in a user's hook would otherwise cost the job its history, or send what it was to hide."""

    def broken(name: str, value: Any) -> Any:
        raise KeyError(name)

    assert guarded_redact(broken)("args", ["secret"]) == HIDDEN
    assert guarded_redact(lambda name, value: object())("args", ["secret"]) == HIDDEN
    assert guarded_redact(lambda name, value: None)("args", ["secret"]) is None


def is_same(value: Any, other: Any) -> bool:
    """Return whether both are equal, and of the same types at every depth."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return list(value) == list(other) and all(is_same(value[key], other[key]) for key in value)
    if isinstance(value, list):
        return len(value) == len(other) and all(map(is_same, value, other))
    return bool(value == other)


@given(st.lists(anything))
def test_whole_arguments_are_the_same_after_decoding(arguments: list[Any]) -> None:
    """A job would be sent again with other arguments than those with which it failed."""
    captured = redact("args", arguments)
    decoded = json.loads(encode(captured))
    assert are_whole(captured, arguments) is is_same(decoded, arguments)


class Text(str):
    """A text of a user's class."""

    __slots__ = ()


@pytest.mark.parametrize(
    "argument",
    [list(range(51)), "x" * 1_001, datetime(2026, 2, 27), date(2026, 2, 27), (1, 2), {"password": "hunter2"}, {1: 2},
     {"a", "b"}, b"bytes", Decimal("1.5"), UUID(int=1), float("nan"), float("inf"), 2**256, "\ud800", Text("text"),
     {Text("key"): 1}, {"k" * 101: 1}, "4111 1111 1111 1111", object(), {"deep": [[[[[[1]]]]]]}, ["x" * 900] * 30],
    ids=lambda argument: type(argument).__name__,
)  # fmt: skip
def test_an_argument_that_json_changes_is_not_whole(argument: Any) -> None:
    """A task would get a text for a date, a list for a tuple, or the first fifty of its items."""
    assert not are_whole(redact("args", [argument]), (argument,))


@pytest.mark.parametrize(
    "argument", [list(range(50)), "x" * 1_000, "ä€😀\u0000", {"a": [1, None, True, {"b": -0.5}]}, 2**255, 1e300, ""]
)
def test_a_plain_argument_is_whole(argument: Any) -> None:
    """A job with the simplest arguments could not be sent again."""
    assert are_whole(redact("args", (argument,)), (argument,))
