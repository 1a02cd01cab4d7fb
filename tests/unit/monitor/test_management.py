"""RabbitMQ's management API: what is asked of it, and what an odd answer does."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sluice_agent.monitor.queues.management import Management
from tests.support.process import free_port

QUEUES = [{"name": "jobs", "messages_unacknowledged": 3}, {"name": "just-made"}]


class Api:
    """A management API that gives one answer."""

    def __init__(self) -> None:
        self.answer = (200, json.dumps(QUEUES).encode())
        self.asked: list[tuple[str, str]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = self.headers["Authorization"].removeprefix("Basic ")
                api.asked.append((self.path, b64decode(key).decode()))
                status, body = api.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """The tests read `asked`."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def api() -> Iterator[Api]:
    """One that knows two queues."""
    made = Api()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_it_is_asked_as_the_brokers_user_for_one_virtual_host(api: Api) -> None:
    """A slash is the name of the usual virtual host; unescaped it asks for another page."""
    assert Management(f"http://127.0.0.1:{api.port}/", "/", "guest", "pass word").unacked() == {"jobs": 3}
    assert api.asked == [("/api/queues/%2F?columns=name,messages_unacknowledged", "guest:pass word")]


def test_a_user_in_the_address_comes_first(api: Api) -> None:
    """The broker's user often may not use the API; behind a proxy it has a path."""
    Management(f"http://watch:p%40ss@127.0.0.1:{api.port}/rabbit", "team a", "guest", "guest").unacked()
    assert api.asked == [("/rabbit/api/queues/team%20a?columns=name,messages_unacknowledged", "watch:p@ss")]


@pytest.mark.parametrize("answer", [(401, b"{}"), (404, b"[]"), (200, b"<html>"), (200, b'[{"a": 1, "b": 2}]')])
def test_an_odd_answer_is_an_error_that_the_gauge_knows(api: Api, answer: tuple[int, bytes]) -> None:
    """Without the figure the depth must be told all the same: the gauge catches these, and no others."""
    api.answer = answer
    with pytest.raises(ValueError, match=r".+"):
        Management(f"http://127.0.0.1:{api.port}", "/", "guest", "guest").unacked()


def test_an_api_that_is_away_is_an_error_that_the_gauge_knows() -> None:
    """As above."""
    with pytest.raises(OSError, match="refused"):
        Management(f"http://127.0.0.1:{free_port()}", "/", "guest", "guest").unacked()


@pytest.mark.parametrize("url", ["rabbitmq:15672", "amqp://rabbitmq", "http://", "http://rabbitmq:99999"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """At the start one reads it; an hour later nobody does."""
    with pytest.raises(ValueError, match=r".+"):
        Management(url, "/", "guest", "guest")
