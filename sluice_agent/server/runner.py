"""``sluice-agent serve``: the API on a socket, until a signal stops it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from sluice_agent.errors import ConfigError
from sluice_agent.server.app import BODY_LIMIT, create_app
from sluice_agent.server.protocol import Protocol

_GRACE = 5  # seconds that requests in progress have after a signal
_log = logging.getLogger("sluice_agent.server")


def print_url(url: str) -> None:
    """Print the server's address to stdout, in the one line that scripts wait for."""
    print(f"sluice-agent serve: listening on {url}", flush=True)


def serve(
    *,
    database: Path,
    host: str = "127.0.0.1",
    port: int = 8787,
    api_key: str | None = None,
    daily_limit: int | None = None,
    body_limit: int = BODY_LIMIT,
    ready: Callable[[str], None] = print_url,
) -> None:
    """Serve the API over the SQLite file `database` until SIGTERM or SIGINT, then return.

    Port 0 takes a free one. `ready` is called once with the API's address, such as ``http://127.0.0.1:8787/api``, when
    connections are accepted; by default the address is printed. The rest is as in `create_app`. On loopback reading
    needs no key; on another host everyone who reaches it can read, which is logged.
    Raises `ConfigError` if the address can't be listened on or the file can't be used.
    """
    with open_listener(host, port) as listener:
        app = create_app(database, api_key=api_key, daily_limit=daily_limit, body_limit=body_limit)
        address, real_port = listener.getsockname()[:2]
        if not ipaddress.ip_address(address).is_loopback:
            _log.warning("The server listens on %s: everyone who reaches it can read all jobs without a key", host)
        display_host = f"[{host}]" if ":" in host else host
        _Server(uvicorn_config(app), lambda: ready(f"http://{display_host}:{real_port}/api")).run(sockets=[listener])


def uvicorn_config(app: FastAPI, protocol: type[Protocol] = Protocol) -> uvicorn.Config:
    """Return the configuration with which uvicorn serves `app`."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end; cancel those that remain. After a second signal uvicorn leaves that to asyncio, which
        prints a stack trace for each."""
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (a signal handler's signature)
        """Stop the server; a second signal does not wait. Unlike uvicorn's, it does not raise the signal again."""
        self.force_exit = self.should_exit
        self.should_exit = True


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`; 0 takes a free one. Raises `ConfigError` if it can't."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only if the protocol is named
    except OSError as error:
        raise _listen_error(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address[0], port, *address[2:]))  # getaddrinfo wraps a port that is too large
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise _listen_error(host, port, error) from error
    return listener


def _listen_error(host: str, port: int, error: Exception) -> ConfigError:
    return ConfigError(f"can't listen on {host}:{port} ({error}): choose another host or port")
