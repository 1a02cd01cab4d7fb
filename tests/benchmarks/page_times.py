"""What the server needs for each page while it has many jobs, and how large the page is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import httpx
from sqlalchemy import select

from sluice_agent.jobs.store import schema as jobs
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.model import JobState
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.database import open_database
from sluice_agent.server.store.schema import job, label, step
from tests.benchmarks.percentiles import percentile
from tests.benchmarks.served import Served
from tests.support.server_data import CONNECTIONS

MOST_MILLISECONDS, MOST_KILOBYTES = 100.0, 60.0
"""What is demanded of a page."""

_REQUESTS = 20
_HEADERS = {"Accept": "text/html", "Accept-Encoding": "gzip"}


class Answer(NamedTuple):
    """The time of a request, and the bytes of its body as it is sent."""

    milliseconds: float
    size: int


@dataclass(frozen=True, slots=True)
class PageTimes:
    """Milliseconds from the request to the last byte: of the first one, and of those after it, with the server's CPU
    for one of these; and the bytes on the wire."""

    first: float
    p50: float
    p95: float
    cpu: float
    size: int

    @property
    def meets_demand(self) -> bool:
        """Whether the page is as fast and as small as is demanded."""
        return self.p95 <= MOST_MILLISECONDS and self.size <= MOST_KILOBYTES * 1_000


def measurements(
    server: Served, addresses: Mapping[str, str], requests: int = _REQUESTS
) -> Iterator[tuple[str, PageTimes]]:
    """Yield the name and the times of each page."""
    with httpx.Client(base_url=server.url.removesuffix("/api"), headers=_HEADERS, timeout=60) as client:
        client.get("/assets/none")  # the connection is open
        for name, address in addresses.items():
            first = _get(client, address)
            cpu = server.cpu
            others = [_get(client, address) for _ in range(requests)]
            yield name, times_of(first, others, 1_000 * (server.cpu - cpu) / requests)


def times_of(first: Answer, others: list[Answer], cpu: float) -> PageTimes:
    """Return the times of a page with the size of its largest answer, given its answers in their order."""
    times = [answer.milliseconds for answer in others]
    size = max(answer.size for answer in (first, *others))
    return PageTimes(first.milliseconds, percentile(times, 50), percentile(times, 95), cpu, size)


def page_addresses(database: Path) -> dict[str, str]:
    """Return the address of each kind of page, for jobs that `filled_server` has put into the database."""
    engine = open_database(database)
    of_first = select(job.c.external_id).where(job.c.connection == 1, job.c.number.in_(select(step.c.job)))
    newest = of_first.order_by(job.c.number.desc()).limit(1)
    in_group = job.c.connection == 1, job.c.group_id.is_not(None)
    newest_group = select(job.c.root_id, job.c.group_id).where(*in_group).order_by(job.c.number.desc()).limit(1)
    is_class, is_location = (label.alias(name) for name in ("error_class", "error_location"))
    with engine.connect() as reader:
        completed, failed = (
            reader.scalars(newest.where(job.c.state == JOB_STATES.index(state))).one()
            for state in (JobState.COMPLETED, JobState.FAILED)
        )
        root, group = reader.execute(newest_group).one()
        error = select(is_class.c.text, is_location.c.text).where(
            job.c.external_id == failed,
            is_class.c.number == job.c.error_class,
            is_location.c.number == job.c.error_location,
        )
        error_class, error_location = reader.execute(error).one()
    engine.dispose()
    return {
        "now": _address("/"),
        "jobs": _address("/jobs"),
        "jobs, failed": _address("/jobs", state="failed"),
        "jobs, of a task": _address("/jobs", name="shop.mail.task_000"),
        "jobs, a search": _address("/jobs", search="MAIL"),
        "jobs, stuck": _address("/jobs", problem="slow"),
        "jobs, the last day": _address("/jobs", **{"from": "2026-02-26T10:30:00Z"}),
        "jobs, by duration": _address("/jobs", sortBy="durationMs"),
        "job": _address(f"/jobs/{job_id(CONNECTIONS[0], completed)}"),
        "job, failed": _address(f"/jobs/{job_id(CONNECTIONS[0], failed)}"),
        "canvas": _address("/canvas", rootId=root),
        "group": _address("/canvas", groupId=group),
        "errors": _address("/errors"),
        "error": _address("/error", errorClass=error_class, errorLocation=error_location),
        "tasks": _address("/tasks"),
        "tasks, 7 days": _address("/tasks", timeRange="7d"),
        "task": _address("/task", name="shop.mail.task_000"),
        "queues": _address("/queues"),
        "queue": _address("/queue", name="queue-03"),
        "workers": _address("/workers"),
        "worker": _address("/worker", id="celery@worker-07"),
        "connections": _address("/connections"),
        "settings": _address("/settings"),
        "sign-in": "/login",
    }


def addresses_of_runs(database: Path) -> dict[str, str]:
    """Return the address of each kind of page of the jobs API, for runs that `run_rows` has put beside the database."""
    store = JobsStore(database, lambda: datetime.now(timezone.utc))
    newest = select(jobs.run).order_by(jobs.run.c.created_at.desc()).limit(1)
    with store.reading() as reader:
        last = reader.execute(newest).one()
        failed = reader.execute(newest.where(jobs.run.c.status == "dead_letter")).one()
        versions = select(jobs.job_version.c.id).where(jobs.job_version.c.job_id == failed.job_id)
        first, *_, newest_version = reader.scalars(versions.order_by(jobs.job_version.c.version))
    store.close()
    definition = f"/definitions/{failed.job_id}"
    return {
        "runs": "/runs",
        "runs, failed": "/runs?status=dead_letter&status=failed",
        "runs, completed": "/runs?status=completed",
        "runs, of a job": f"/runs?job_id={failed.job_id}",
        "runs, a search": "/runs?search=job",
        "runs, a search of failed ones": "/runs?search=job&status=dead_letter",
        "runs, of an error class": "/runs?error_class=server",
        "runs, the last day": "/runs?from=2026-02-26T10:30:00Z",
        "run": f"/runs/{last.id}",
        "run, its log": f"/runs/{last.id}/log",
        "run, failed": f"/runs/{failed.id}",
        "dead letters": "/dead-letters",
        "dead letters, a search": "/dead-letters?search=job",
        "definitions": "/definitions",
        "definitions, a search": "/definitions?search=job",
        "definition": definition,
        "definition, 30 days": f"{definition}?window=30d",
        "dependencies": f"{definition}/dependencies",
        "versions": f"{definition}/versions",
        "version": f"{definition}/versions/{newest_version}?against={first}",
        "schedules": "/schedules",
    }


def _address(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode({**parameters, 'connectionId': CONNECTIONS[0]})}"


def _get(client: httpx.Client, address: str) -> Answer:
    started = time.perf_counter()
    with client.stream("GET", address) as answer:
        size = sum(map(len, answer.iter_raw()))
    milliseconds = (time.perf_counter() - started) * 1_000
    answer.raise_for_status()
    return Answer(milliseconds, size)
