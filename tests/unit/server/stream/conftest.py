"""A real server that has only the stream, over a database that a test writes to."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from fastapi import FastAPI

from sluice_agent.server.access.principal import LOOPBACK, Principal
from sluice_agent.server.errors import register_error_handlers
from sluice_agent.server.middleware import ServerMiddleware
from sluice_agent.server.protocol import Protocol
from sluice_agent.server.routes.stream import stream_router
from sluice_agent.server.runner import open_listener, uvicorn_config
from sluice_agent.server.store import Store
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.limits import StreamLimits
from tests.support.frame_source import FrameSource
from tests.support.waiting import wait_until

NOW = datetime(2026, 2, 27, 10, 30, 15, tzinfo=timezone.utc)
QUICK = StreamLimits(tick=0.01)


class StreamServer:
    """A server in a thread. `url` is the API's address."""

    def __init__(
        self,
        source: FrameSource,
        limits: StreamLimits = QUICK,
        principal: Principal = LOOPBACK,
        protocol: type[Protocol] = Protocol,
    ) -> None:
        self.hub = Hub(cast("Store", source), lambda: NOW, limits)
        listener = open_listener("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        self._server = uvicorn.Server(uvicorn_config(self._app(source, principal), protocol))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        wait_until(lambda: self._server.started)

    @property
    def connections(self) -> int:
        """The number of HTTP connections."""
        return len(self._server.server_state.connections)

    @property
    def has_full_buffer(self) -> bool:
        """True while the server can't send to one of its clients."""
        protocols = cast("set[Protocol]", self._server.server_state.connections)
        return any(protocol.flow.write_paused for protocol in set(protocols))

    def stop(self) -> None:
        """Ask the server to end."""
        self._server.should_exit = True

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _app(self, source: FrameSource, principal: Principal) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.hub.start()
            yield
            self.hub.close()

        app = FastAPI(lifespan=lifespan)
        app.state.identify = lambda _: principal
        app.add_middleware(ServerMiddleware)
        register_error_handlers(app)
        app.include_router(stream_router(cast("Store", source), self.hub), prefix="/api")
        return app


Serve = Callable[..., StreamServer]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Start servers, which end with the module: uvicorn takes a while to notice that it should."""
    servers: list[StreamServer] = []

    def started(source: FrameSource, **arguments: Any) -> StreamServer:
        servers.append(StreamServer(source, **arguments))
        return servers[-1]

    yield started
    for server in servers:
        server.stop()
    for server in servers:
        server.join()


@pytest.fixture
def source(tmp_path: Path) -> FrameSource:
    """A new database."""
    return FrameSource(tmp_path / "frames.db")
