"""RabbitMQ's management API: what is asked of it, and what an odd answer does."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator

import pytest

from sluice_agent.monitor.queues.management import Management
from tests.support.json_api import JsonApi
from tests.support.process import free_port

QUEUES = [{"name": "jobs", "messages_unacknowledged": 3}, {"name": "just-made"}]


@pytest.fixture
def api() -> Iterator[JsonApi]:
    """One that knows two queues."""
    made = JsonApi(json.dumps(QUEUES).encode())
    yield made
    made.close()


def basic(user_and_password: str) -> str:
    """The header that names a user."""
    return f"Basic {b64encode(user_and_password.encode()).decode()}"


def test_it_is_asked_as_the_brokers_user_for_one_virtual_host(api: JsonApi) -> None:
    """A slash is the name of the usual virtual host; unescaped it asks for another page."""
    assert Management(f"{api.url}/", "/", "guest", "pass word").unacked() == {"jobs": 3}
    assert api.requests == [("/api/queues/%2F?columns=name,messages_unacknowledged", basic("guest:pass word"))]


def test_a_user_in_the_address_comes_first(api: JsonApi) -> None:
    """The broker's user often may not use the API; behind a proxy it has a path."""
    address = api.url.replace("//", "//watch:p%40ss@")
    Management(f"{address}/rabbit", "team a", "guest", "guest").unacked()
    assert api.requests == [("/rabbit/api/queues/team%20a?columns=name,messages_unacknowledged", basic("watch:p@ss"))]


@pytest.mark.parametrize("answer", [(401, b"{}"), (404, b"[]"), (200, b"<html>"), (200, b'[{"a": 1, "b": 2}]')])
def test_an_odd_answer_is_an_error_that_the_gauge_knows(api: JsonApi, answer: tuple[int, bytes]) -> None:
    """Without the figure the depth must be told all the same: the gauge catches these, and no others."""
    api.answer = answer
    with pytest.raises(ValueError, match=r".+"):
        Management(api.url, "/", "guest", "guest").unacked()


def test_an_api_that_is_away_is_an_error_that_the_gauge_knows() -> None:
    """As above."""
    with pytest.raises(OSError, match="refused"):
        Management(f"http://127.0.0.1:{free_port()}", "/", "guest", "guest").unacked()


@pytest.mark.parametrize("url", ["rabbitmq:15672", "amqp://rabbitmq", "http://", "http://rabbitmq:99999"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """At the start one reads it; an hour later nobody does."""
    with pytest.raises(ValueError, match=r".+"):
        Management(url, "/", "guest", "guest")
