"""What leaves a task's arguments and results: plain, small, and without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.model import encode
from sluice_agent.redaction import HIDDEN, redact, unfailing

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
def test_a_value_under_a_telling_name_is_hidden(name: str) -> None:
    """A customer's password in somebody else's database is the end of the monitoring, and of more."""
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
def test_what_is_no_secret_stays(harmless: Any) -> None:
    """A redaction that hides everything is switched off by its users."""
    assert redact("args", [harmless]) == [harmless]


def test_a_card_number_is_hidden_as_a_number_too() -> None:
    """Card numbers are sent as numbers by those who never thought about it."""
    assert redact("args", [4111111111111111]) == [HIDDEN]


@given(anything)
def test_whatever_a_task_is_called_with_becomes_small_plain_json(value: Any) -> None:
    """A strange argument must not cost the event that carries it, nor fill the journal."""
    sent = redact("args", [value])
    assert json.loads(encode(sent)) is not None


def test_large_values_are_cut() -> None:
    """A task that is handed a megabyte would otherwise send it, for money."""
    sent = redact("args", ["x" * 1_000_000, list(range(10_000)), {"key": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}}])
    assert len(encode(sent)) < 3_000
    assert "[999000 characters cut]" in sent[0]


def test_an_object_is_shown_by_its_repr_and_one_that_has_none_does_no_harm() -> None:
    """Arguments are pickled objects in some projects, and their repr is the user's code."""

    class Order:
        def __repr__(self) -> str:
            return "<Order 7>"

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("on purpose")

    assert redact("args", [Order()]) == ["<Order 7>"]
    assert redact("args", [Broken()]) == ["<Broken that can't be shown>"]


def test_a_hook_that_fails_hides_the_value_and_loses_no_event() -> None:
    """A bug in somebody's redaction would otherwise cost the job its history, or send what it was to hide."""

    def broken(name: str, value: Any) -> Any:
        raise KeyError(name)

    assert unfailing(broken)("args", ["secret"]) == HIDDEN
    assert unfailing(lambda name, value: object())("args", ["secret"]) == HIDDEN
    assert unfailing(lambda name, value: None)("args", ["secret"]) is None
