"""The jobs API inside the server: opened at the start, or by its first request if there are no jobs yet.

Its modules take 0.3 s and 15 MB, which a server that only observes does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_agent.jobs.celery_target import TaskRules
from sluice_agent.jobs.engine.options import ENGINE, EngineOptions
from sluice_agent.jobs.routes.request_limits import RequestLimits
from sluice_agent.jobs.store.store import jobs_file
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.access.setup import Access
from sluice_agent.server.actions.broker import Broker
from sluice_agent.server.pages.no_jobs import LISTS, no_jobs_router
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.store.database import Database

if TYPE_CHECKING:
    from sluice_agent.jobs.engine.assembly import JobsRoom

_PACKAGES = ("cronsim", "jsonschema", "re2")  # that the jobs API imports, which may be long after the start
PATH = "/v1"
CALLS_PATH = "/sdk/v1"  # of the calls that endpoints make about their runs


def check_packages(names: Sequence[str] = _PACKAGES) -> None:
    """Raise `ImportError` if a package is missing, as after an upgrade without the extra: the first job would fail."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"No module named {', '.join(missing)}")


class _Applications(NamedTuple):
    api: ASGIApp
    calls: ASGIApp


class JobsApi:
    """What answers under ``/v1`` and ``/sdk/v1``, shows it on pages, and executes runs: by workers of `broker`, or in
    this process without one.

    `sources` are those of pages, and have the events of Celery tasks. `engine` is None where another server executes
    runs. `limits` are those of the requests of an address, by `clock` in seconds. Raises `ConfigError` if the database
    can't be used.
    """

    def __init__(
        self,
        app: FastAPI,
        database: Database,
        access: Access,
        engine: EngineOptions | None,
        broker: Broker | None,
        sources: Sources,
        limits: RequestLimits,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._sources = sources
        self._database = database
        self._access = access
        self._engine = engine
        self._broker = broker
        self._limits = limits
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._is_started = False
        self._is_closed = False
        self._room: JobsRoom | None = None
        self._opened: _Applications | None = None
        app.mount(PATH, self)
        app.mount(CALLS_PATH, self._answer_call)
        app.state.has_jobs_api = True
        app.state.abandoned_queue = self.abandoned_queue
        self._add_pages_of_no_jobs()
        if not isinstance(database, Path) or jobs_file(database).exists():
            self._open()

    def start(self) -> None:
        """Begin to execute runs."""
        with self._lock:
            self._is_started = True
            if self._room is not None:
                self._room.start()

    def close(self) -> None:
        """Stop executing runs, and close the database."""
        with self._lock:
            self._is_closed = True
            if self._room is not None:
                self._room.close()

    def abandoned_queue(self) -> str | None:
        """Return the queue of runs from which no worker takes messages; None if one does, or no run has waited yet."""
        room = self._room
        if room is None:
            return None
        with room.store.reading() as reader:
            return abandoned_queue(reader)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        opened = await self._ensure_open()
        await opened.api(scope, receive, send)

    async def _answer_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = await self._ensure_open()
        await opened.calls(scope, receive, send)

    async def _ensure_open(self) -> _Applications:
        opened = self._opened
        return await run_in_threadpool(self._open) if opened is None else opened

    def _add_pages_of_no_jobs(self) -> None:
        """Add the lists, which are empty, and what opens the jobs API for all pages below them."""
        opening = [Route(f"{path}/{{rest:path}}", _Opening(self._open, self._app)) for path in LISTS]
        self._pages_of_no_jobs = [*no_jobs_router(self._sources).routes, *opening]
        self._app.router.routes += self._pages_of_no_jobs

    def _open(self) -> _Applications:
        from sluice_agent.jobs.engine.assembly import open_jobs  # noqa: PLC0415 - see above
        from sluice_agent.jobs.routes.app import JobsApp  # noqa: PLC0415
        from sluice_agent.jobs.routes.calls import CallsApp  # noqa: PLC0415
        from sluice_agent.jobs.routes.endpoints import EndpointRules  # noqa: PLC0415
        from sluice_agent.jobs.routes.internal import internal_routes  # noqa: PLC0415
        from sluice_agent.server.pages.jobs_api.api import Api  # noqa: PLC0415
        from sluice_agent.server.pages.jobs_api.router import jobs_pages_router  # noqa: PLC0415
        from sluice_agent.server.pages.jobs_api.scope import JobsSources  # noqa: PLC0415

        with self._lock:
            if self._opened is not None:
                return self._opened
            engine = self._engine or ENGINE
            allows_private = engine.allows_private or not self._access.exposure.is_open
            events = self._sources.store
            room = open_jobs(
                self._database, events, self._engine, self._broker, self._now, allows_private=allows_private
            )
            routes = internal_routes(room.store, room.attempts, self._access.gate)
            tasks = TaskRules(engine.tasks, engine.task_queues, self._broker is not None)
            rules = EndpointRules(allows_private, tasks, engine.environments)
            api = JobsApp(room.store, self._access, rules, self._limits, self._clock)
            pages = jobs_pages_router(JobsSources(self._sources, room.store, Api(api)))
            others = [route for route in self._app.router.routes if route not in self._pages_of_no_jobs]
            self._app.router.routes = [*routes, *pages.routes, *others]  # most requests are for the first
            self._room = room
            self._opened = opened = _Applications(api, CallsApp(room.store, room.changes))
            if self._is_started and not self._is_closed:
                room.start()
            return opened


class _Opening:
    """Answers the first request for a page below the lists: it opens the jobs API, whose own pages come first then."""

    def __init__(self, open_: Callable[[], object], app: FastAPI) -> None:
        self._open = open_
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await run_in_threadpool(self._open)
        await self._app.router(scope, receive, send)
