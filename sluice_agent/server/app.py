"""The assembled server: one store, a router per subject, one error format; the API and the pages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.routes.request_limits import RequestLimits
from sluice_agent.server.access.host_check import HostCheck
from sluice_agent.server.access.setup import LOOPBACK_ONLY, AccessOptions, open_access
from sluice_agent.server.actions.assembly import NO_ACTIONS, ActionOptions, acting_of
from sluice_agent.server.alerts.assembly import AlertOptions, alerting_of
from sluice_agent.server.database_errors import register_database_errors
from sluice_agent.server.errors import register_error_handlers
from sluice_agent.server.first_statistics import FirstStatistics
from sluice_agent.server.jobs_api import JobsApi
from sluice_agent.server.middleware import ServerMiddleware
from sluice_agent.server.pages.error_pages import ErrorPages
from sluice_agent.server.pages.no_jobs import no_jobs_api_router
from sluice_agent.server.pages.router import pages_router
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.request_body import BodyLimit
from sluice_agent.server.routes.actions import actions_router
from sluice_agent.server.routes.documented import DescribedApp
from sluice_agent.server.routes.health import health_router
from sluice_agent.server.routes.ingest import IngestPolicy, ingest_router
from sluice_agent.server.routes.jobs import jobs_router
from sluice_agent.server.routes.statistics import statistics_router
from sluice_agent.server.routes.stream import stream_router
from sluice_agent.server.store import Store
from sluice_agent.server.store.database import Database
from sluice_agent.server.store.retention import EVERYTHING, Keep
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.limits import STREAM_LIMITS, StreamLimits

BODY_LIMIT = 5_000_000
"""Bytes of a request's body, before and after decompression."""

BODIES_LIMIT = 64_000_000
"""Bytes of the bodies of all requests that the server handles at a time, as they were received."""


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def create_app(
    database: Database,
    *,
    options: AccessOptions = LOOPBACK_ONLY,
    actions: ActionOptions = NO_ACTIONS,
    daily_limit: int | None = None,
    body_limit: int = BODY_LIMIT,
    bodies_limit: int = BODIES_LIMIT,
    stream_limits: StreamLimits = STREAM_LIMITS,
    keep: Keep = EVERYTHING,
    alerts: AlertOptions | None = None,
    has_jobs: bool = False,
    engine: EngineOptions | None = None,
    request_limits: RequestLimits | None = None,
    now: Callable[[], datetime] = _utc_now,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Return the API under ``/api``, and the pages, over `database`: a SQLite file, created if absent, or the address
    of a PostgreSQL.

    `options` are those of access, `actions` those of retry and revoke. `daily_limit` counts events of a connection in a
    UTC day of the clock `now`. `body_limit` counts bytes of one body, `bodies_limit` of all at a time. `stream_limits`
    bound the stream of changes. `keep` limits the jobs that are kept. `alerts` are rules that
    are evaluated, None: there are none. `has_jobs`: the jobs API is under ``/v1``. `engine` is how its runs are
    executed; None: another server does so. `request_limits` are those of an address that sends requests to it,
    within a minute of `clock`, whose seconds only go on.
    Raises `ConfigError` if the database can't be used or the options contradict each other.
    """
    store = Store(database, now=now, keep=keep)
    access = open_access(store.engine, options, now)
    acting = acting_of(store, actions, access.accounts, access.audit, now)
    hub = Hub(store, now, stream_limits)
    past_sums = PastSums()
    first_statistics = FirstStatistics(store, past_sums, now)
    alerting = None if alerts is None else alerting_of(store, alerts, past_sums)
    jobs: JobsApi | None = None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        hub.start()
        acting.start()
        first_statistics.start()
        if alerting is not None:
            alerting.start()
        if jobs is not None:
            jobs.start()
        yield
        hub.close()
        if alerting is not None:
            await run_in_threadpool(alerting.close)
        await run_in_threadpool(acting.close)
        await run_in_threadpool(first_statistics.close)
        if jobs is not None:
            await run_in_threadpool(jobs.close)
        await run_in_threadpool(store.close)  # waits for a write in progress; the loop sends responses meanwhile

    app = DescribedApp(lifespan)
    app.state.store = store
    app.state.access = access
    app.state.identify = access.gate.identify
    app.add_middleware(BodyLimit, limit=body_limit, total=bodies_limit)
    app.add_middleware(HostCheck, exposure=access.exposure)
    app.add_middleware(ServerMiddleware)  # its headers are on every response
    app.add_middleware(ErrorPages, now=now)  # the outermost: also a failure of the others is a page
    register_error_handlers(app)
    register_database_errors(app)
    for router in (
        ingest_router(store, access.gate, IngestPolicy(body_limit, daily_limit, now)),
        actions_router(acting),  # its paths are among those that the next one matches for other methods
        jobs_router(store),
        statistics_router(store, now, past_sums),
        health_router(store),
        stream_router(store, hub),
    ):
        app.include_router(router, prefix="/api")
    sources = Sources(store, access, acting, now, keep, daily_limit, past_sums)
    if has_jobs:
        jobs = JobsApi(
            app, database, access, engine, actions.brokers.for_runs(), sources, request_limits or {}, now, clock
        )
    else:
        app.include_router(no_jobs_api_router())
    app.include_router(pages_router(sources))
    return app
