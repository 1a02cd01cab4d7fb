"""A Sluice of our own in a thread of the test, on a free loopback port, and clients of it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from sluice_agent.server.access.setup import Access
from sluice_agent.server.app import create_app
from sluice_agent.server.protocol import Protocol
from sluice_agent.server.runner import open_listener, uvicorn_config

ANY_KEY = {"Authorization": "Bearer sk_test"}

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client reads all authorities of the machine


class LocalSluice:
    """A running server over `database`, with the given arguments of `create_app`."""

    def __init__(self, database: Path | str, protocol: type[Protocol] = Protocol, **arguments: Any) -> None:
        listener = open_listener("127.0.0.1", 0)
        self.database = database
        self.app = create_app(database, **arguments)
        self.access: Access = self.app.state.access
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn_config(self.app, protocol))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._clients: list[httpx.Client] = []
        self._thread.start()

    def client(self, headers: Mapping[str, str] | None = None, path: str = "/api") -> httpx.Client:
        """Return a client with these headers on every request; without any, it has a key that any server accepts."""
        given = ANY_KEY if headers is None else headers
        client = httpx.Client(base_url=f"{self.url}{path}", headers=given, timeout=30, verify=_NO_TLS)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Close the clients and ask the server to end, without waiting: it looks ten times a second."""
        for client in self._clients:
            client.close()
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until the server has ended."""
        self._thread.join()


@contextmanager
def local_sluice(database: Path | str, **arguments: Any) -> Iterator[LocalSluice]:
    """Run a server until the end of the block."""
    server = LocalSluice(database, **arguments)
    try:
        yield server
    finally:
        server.stop()
        server.join()
