"""RabbitMQ's management API: the request, and the effect of an odd response."""

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
    """An API with two queues."""
    made = JsonApi(json.dumps(QUEUES).encode())
    yield made
    made.close()


def basic(user_and_password: str) -> str:
    """Return the header that names a user."""
    return f"Basic {b64encode(user_and_password.encode()).decode()}"


def test_it_is_asked_as_the_brokers_user_for_one_virtual_host(api: JsonApi) -> None:
    """A slash is the name of the usual virtual host; unescaped it leads to another page."""
    assert Management(f"{api.url}/", "/", "guest", "pass word").unacked() == {"jobs": 3}
    assert api.requests == [("/api/queues/%2F?columns=name,messages_unacknowledged", basic("guest:pass word"))]


def test_a_user_in_the_address_comes_first(api: JsonApi) -> None:
    """The broker's user often may not use the API; behind a proxy it has a path."""
    address = api.url.replace("//", "//watch:p%40ss@")
    Management(f"{address}/rabbit", "team a", "guest", "guest").unacked()
    assert api.requests == [("/rabbit/api/queues/team%20a?columns=name,messages_unacknowledged", basic("watch:p@ss"))]


@pytest.mark.parametrize("answer", [(401, b"{}"), (404, b"[]"), (200, b"<html>"), (200, b'[{"a": 1, "b": 2}]')])
def test_an_odd_response_is_an_error_that_the_reader_catches(api: JsonApi, answer: tuple[int, bytes]) -> None:
    """Without this figure the depth must be emitted nevertheless: the reader catches these errors, and no others."""
    api.answer = answer
    with pytest.raises(ValueError, match=r".+"):
        Management(api.url, "/", "guest", "guest").unacked()


def test_an_unreachable_api_is_an_error_that_the_reader_catches() -> None:
    """As above."""
    with pytest.raises(OSError, match="refused"):
        Management(f"http://127.0.0.1:{free_port()}", "/", "guest", "guest").unacked()


@pytest.mark.parametrize("url", ["rabbitmq:15672", "amqp://rabbitmq", "http://", "http://rabbitmq:99999"])
def test_a_malformed_address_is_refused_at_once(url: str) -> None:
    """A user reads the message at the start; an hour later it is overlooked."""
    with pytest.raises(ValueError, match=r".+"):
        Management(url, "/", "guest", "guest")
