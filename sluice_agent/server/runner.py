"""``sluice-agent serve``: the API on a socket, until a signal stops it."""

from __future__ import annotations

import gc
import ipaddress
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from sluice_agent.errors import ConfigError
from sluice_agent.jobs.engine.options import ENGINE, EngineOptions
from sluice_agent.jobs.routes.request_limits import RequestLimits
from sluice_agent.log import Limited
from sluice_agent.server.access.accounts import NewKey
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import Access, AccessOptions
from sluice_agent.server.access.worker_environment import CONNECTION, KEY, LOCAL_KEY, worker_environment
from sluice_agent.server.actions.assembly import NO_ACTIONS, ActionOptions
from sluice_agent.server.alerts.assembly import AlertOptions
from sluice_agent.server.app import BODY_LIMIT, create_app
from sluice_agent.server.pages.formats import age
from sluice_agent.server.protocol import Protocol
from sluice_agent.server.store import Store
from sluice_agent.server.store.database import Database
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.retention import EVERYTHING, Keep

_SWITCH = 0.002  # seconds for which a thread may keep the others waiting: each request changes threads several times
_COLLECTION = (50_000, 20, 50)  # each batch makes thousands of objects, of which none is in a cycle
GRACE = 5  # seconds that requests in progress have after a signal


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a server shows once it accepts connections.

    `url` is the API's, such as ``http://127.0.0.1:8787/api``; `sign_in_url` is a link that works once;
    `reaches_back_to` is the creation of the oldest job that has ended. `environment` has the variables of a worker, as
    `worker_environment` returns them; `new_key` is the key in it if it was made now, and can't be shown again.
    """

    url: str
    sign_in_url: str
    connection: NamedConnection | None
    new_key: NewKey | None
    keep: Keep
    reaches_back_to: datetime | None
    environment: Mapping[str, str]


def announce(announcement: Announcement) -> None:
    """Print the address to stdout, in the first line, for which scripts wait; then the sign-in link, what is kept, and
    the variables of workers, to be pasted."""
    lines = [f"listening on {announcement.url}", f"sign in at {announcement.sign_in_url} (once)", _kept(announcement)]
    title = "set these for your workers, and for all that call tasks"
    if announcement.new_key is not None:
        title += f" (the key of the connection {_name(announcement)} is shown once)"
    text = "\n".join(f"sluice-agent serve: {line}" for line in [*lines, f"{title}:"])
    print(f"{text}\n{_exports(announcement)}", flush=True)


def _exports(announcement: Announcement) -> str:
    """Return the variables as a shell takes them. A key of the user's own is not printed."""
    shown = dict(announcement.environment)
    key = shown.get(KEY)
    if key is not None and announcement.new_key is None and key != LOCAL_KEY:
        del shown[KEY]
    lines = [f"export {name}={value}" for name, value in shown.items()]
    if key is None:
        name = announcement.connection.name if announcement.connection is not None else None
        command = f"sluice-agent key create --connection {name or 'NAME'} --role ingest"
        lines.append(f"# and {' and '.join(missing_from(shown))}, as printed by: {command}")
    elif KEY not in shown:
        lines.append(f"# and {KEY}, the key of --api-key")
    return "\n".join(lines)


def missing_from(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of a worker that `environment` does not have."""
    return [name for name in (CONNECTION, KEY) if name not in environment]


def _name(announcement: Announcement) -> str:
    connection = announcement.connection
    return (connection.name or "without a name") if connection is not None else ""


def _kept(announcement: Announcement) -> str:
    """Return how long jobs are kept, and how far back they reach."""
    keep, oldest = announcement.keep, announcement.reaches_back_to
    limits = [] if keep.age is None else [f"for {age(keep.age)}"]
    if keep.size is not None:
        limits.append(f"in at most {keep.size / 1e9:g} GB")
    since = "there is none yet" if oldest is None else f"the oldest is of {oldest:%Y-%m-%d %H:%M} UTC"
    return f"keeps ended jobs {' and '.join(limits) or 'for ever'}; {since}"


def serve(
    *,
    database: Database,
    host: str = "127.0.0.1",
    port: int = 8787,
    allowed_hosts: Sequence[str] = (),
    connection: str | None = None,
    api_key: str | None = None,
    trusted_proxies: Sequence[str] = (),
    actions: ActionOptions = NO_ACTIONS,
    daily_limit: int | None = None,
    body_limit: int = BODY_LIMIT,
    keep: Keep = EVERYTHING,
    alerts: AlertOptions | None = None,
    engine: EngineOptions = ENGINE,
    request_limits: RequestLimits | None = None,
    grace: int = GRACE,
    ready: Callable[[Announcement], None] = announce,
    stopping: threading.Event | None = None,
) -> None:
    """Serve the API over `database`, as `create_app`, until SIGTERM or SIGINT, or until `stopping` is set; then return.

    Port 0 takes a free one. `ready` is called once, when connections are accepted; by default it prints. After a
    signal, requests in progress have `grace` seconds. The options of access are those of `AccessOptions`, the rest is
    as in `create_app`. Raises `ConfigError` if the address can't be listened on, the database can't be used, or the
    options contradict each other.
    """
    sys.setswitchinterval(_SWITCH)
    options = AccessOptions(host, allowed_hosts, connection, api_key, trusted_proxies)
    with open_listener(host, port) as listener:
        app = create_app(
            database,
            options=options,
            actions=actions,
            daily_limit=daily_limit,
            body_limit=body_limit,
            keep=keep,
            alerts=alerts,
            has_jobs=True,
            engine=engine,
            request_limits=request_limits,
        )
        access: Access = app.state.access
        store: Store = app.state.store
        address, real_port = listener.getsockname()[:2]

        limit_collections()

        def on_ready() -> None:
            browser_host = "localhost" if ipaddress.ip_address(address).is_unspecified else _url_host(host)
            token = access.sessions.create_token(Role.OPERATOR)
            url = f"http://{_url_host(host)}:{real_port}/api"
            link = f"http://{browser_host}:{real_port}/login?token={token}"
            environment = worker_environment(url, access, options)
            oldest = store.reaches_back_to()
            ready(Announcement(url, link, access.connection, access.new_key, keep, oldest, environment))

        _Server(app, uvicorn_config(app, grace=grace), on_ready, stopping).run(sockets=[listener])


def limit_collections() -> None:
    """Have cycles collected rarely, and only among objects that are made from now on: those of the modules and of the
    application live as long as the process, and a look at all of them stops every thread for tens of milliseconds."""
    gc.set_threshold(*_COLLECTION)
    gc.collect()
    gc.freeze()


def _url_host(host: str) -> str:
    """Return `host` as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def uvicorn_config(app: FastAPI, protocol: type[Protocol] = Protocol, grace: int = GRACE) -> uvicorn.Config:
    """Return the configuration with which uvicorn serves `app`. Any client can make it warn, by a request that is not
    HTTP."""
    logging.getLogger("uvicorn.error").addFilter(_LIMITED)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # `exposure` reads them
        timeout_graceful_shutdown=grace,
    )


_LIMITED = Limited()


class _Server(uvicorn.Server):
    def __init__(
        self, app: FastAPI, config: uvicorn.Config, ready: Callable[[], None], stopping: threading.Event | None
    ) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self._stopping = stopping

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: called ten times a second."""
        if self._stopping is not None and self._stopping.is_set():
            return True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await run_in_threadpool(_build_routes, self._app)
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


def _build_routes(app: FastAPI) -> None:
    """Have the framework build all routes: at the first request it would take 0.1 s, in which others wait. That this
    is done in its thread pool loads what the pool needs as well."""
    nowhere = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


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
