"""A real server on a free loopback port, over a new file, and a client with a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.server.protocol import Protocol
from tests.support.local_sluice import LocalSluice

Start = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def ending() -> Iterator[list[LocalSluice]]:
    """The servers that end: no test waits for them."""
    servers: list[LocalSluice] = []
    yield servers
    for server in servers:
        server.join()


@pytest.fixture
def start(tmp_path: Path, ending: list[LocalSluice]) -> Iterator[Start]:
    """Start a server with the given arguments of `create_app`, or a `protocol`, and return a client of it."""
    running: list[LocalSluice] = []

    def started(protocol: type[Protocol] = Protocol, **arguments: Any) -> httpx.Client:
        running.append(LocalSluice(tmp_path / f"{len(running)}.db", protocol, **arguments))
        return running[-1].client()

    yield started
    for server in running:
        server.stop()
        ending.append(server)


@pytest.fixture
def client(start: Start) -> httpx.Client:
    """A client of a server that accepts any key and has the default limits."""
    return start()
