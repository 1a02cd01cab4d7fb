"""A real server on a free loopback port, over a new file, and a client with a key."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from sluice_agent.server import create_app
from sluice_agent.server.protocol import Protocol
from sluice_agent.server.runner import open_listener, uvicorn_config

Start = Callable[..., httpx.Client]

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client reads all authorities of the machine


@pytest.fixture(scope="module")
def ending() -> Iterator[list[threading.Thread]]:
    """The threads of servers that end. uvicorn looks ten times a second whether it should, so tests do not wait."""
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join()


@pytest.fixture
def start(tmp_path: Path, ending: list[threading.Thread]) -> Iterator[Start]:
    """Start a server with the given arguments of `create_app`, or a `protocol`, and return a client of it."""
    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def started(protocol: type[Protocol] = Protocol, **arguments: Any) -> httpx.Client:
        listener = open_listener("127.0.0.1", 0)
        app = create_app(tmp_path / f"{len(running)}.db", **arguments)
        server = uvicorn.Server(uvicorn_config(app, protocol))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/api",
            headers={"Authorization": "Bearer sk_test"},
            timeout=30,
            verify=_NO_TLS,
        )
        running.append((server, thread, client))
        return client

    yield started
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        ending.append(thread)


@pytest.fixture
def client(start: Start) -> httpx.Client:
    """A client of a server that accepts any key and has the default limits."""
    return start()
