"""The call that a message asks for: what a server needs to send a job again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from celery import chord, group

from sluice_agent.lifecycle.redaction import HIDDEN, guarded_redact
from tests.unit.signals.observed import Observed
from tests.unit.signals.test_producer import Shop


def published(**options: Any) -> dict[str, Any]:
    """Return the job as it is reported when it is published, in a process that captures arguments."""
    shop = Shop(Observed(redact=guarded_redact(None)))
    shop.publish(**options)
    return shop.observed.last


@pytest.mark.parametrize("args", [(1, "a"), [1, "a"]])
def test_arguments_that_are_captured_whole(args: Any) -> None:
    """No job could be sent again; or a tuple would be, which becomes a list."""
    job = published(args=args, kwargs={"of": {"b": [1.5]}})
    assert (job["args"], job["kwargs"], job["argsWhole"]) == ([1, "a"], {"of": {"b": [1.5]}}, True)
    assert job["message"] == {"serializer": "json"}


@pytest.mark.parametrize(
    "options",
    [
        {"args": ((1, 2),)},
        {"args": ({"token": "t"},)},
        {"args": (math.inf,)},
        {"args": (-0.0,)},
        {"args": (2**300,)},
        {"args": ("\ud800",)},
        {"kwargs": {"secret": 1}},
        {"kwargs": {"when": (1,)}},
        {"kwargs": {"of": [{"ratio": math.nan}]}},
    ],
)
def test_arguments_that_are_not(options: dict[str, Any]) -> None:
    """A job would be sent again with a hidden password, a list for a tuple, or null for an infinite number."""
    assert "argsWhole" not in published(**options)


def test_the_options_of_the_message() -> None:
    """A job that is sent again would lose its time limits, its serializer and its tenant."""
    job = published(
        time_limit=30, soft_time_limit=20.5, serializer="yaml", ignore_result=True, headers={"tenant": "a", "n": 1}
    )
    assert job["message"] == {
        "serializer": "yaml",
        "timeLimit": 30,
        "softTimeLimit": 20.5,
        "ignoreResult": True,
        "headers": {"tenant": "a", "n": 1},
        "headersWhole": True,
    }


def test_a_secret_header_is_hidden() -> None:
    """A bearer token in a header would be sent to a third party; and a job be sent again with the mark in its place."""
    message = published(headers={"authorization": "Bearer abcdefgh12345678"})["message"]
    assert (message["headers"], message["headersWhole"]) == ({"authorization": HIDDEN}, False)


def test_what_follows_a_job_is_named() -> None:
    """Nobody would be warned that what follows a job in its canvas does not follow its repetition."""
    shop = Shop(Observed(redact=guarded_redact(None)))
    queue = {"queue": f"queue-{id(shop)}"}
    (shop.task.s().set(**queue) | shop.task.s().set(**queue)).apply_async()
    assert shop.observed.last["message"]["canvas"] == ["chain"]
    shop.publish(link=shop.task.s(), link_error=shop.task.s())
    assert shop.observed.last["message"]["canvas"] == ["callbacks", "errbacks"]
    member = shop.task.s().set(**queue)
    chord(group(member, member), member).apply_async()
    assert shop.observed.last["message"]["canvas"] == ["chord"]


def test_arguments_in_the_body_of_task_protocol_1() -> None:
    """A message of the older protocol has its arguments, limits and callbacks in one mapping."""
    shop = Shop(Observed(redact=guarded_redact(None)))
    shop.app.conf.task_protocol = 1
    shop.publish(args=(1,), kwargs={"a": 2}, time_limit=5, link=shop.task.s())
    job = shop.observed.last
    assert (job["args"], job["kwargs"], job["argsWhole"]) == ([1], {"a": 2}, True)
    assert (job["message"]["timeLimit"], job["message"]["canvas"]) == (5, ["callbacks"])


def test_without_capture_nothing_of_an_ordinary_call_is_reported() -> None:
    """Arguments may say as much of a customer as anything; and each further byte of an event costs its user."""
    shop = Shop()
    shop.publish(args=(1,), kwargs={"a": 2}, ignore_result=True, serializer="json")
    assert not {"args", "kwargs", "argsWhole", "message"} & shop.observed.last.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_limit": 30}, {"timeLimit": 30, "serializer": "json"}),
        ({"serializer": "yaml"}, {"serializer": "yaml"}),
        ({"headers": {"tenant": "a"}}, {"headersWhole": False, "serializer": "json"}),
    ],
)
def test_without_capture_a_repetition_loses_no_option(options: dict[str, Any], message: dict[str, Any]) -> None:
    """A job whose arguments are in the result backend would be sent again without its limit, or for another tenant."""
    shop = Shop()
    shop.publish(args=(1,), **options)
    assert shop.observed.last["message"] == message
    assert "args" not in shop.observed.last
