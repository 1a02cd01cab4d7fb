"""Run the whole table on one broker and pool, with one worker, one endpoint and the producers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outcomes.rows import ROWS
from tests.integration.outcomes.send import PRODUCERS, possible_rows, version
from tests.integration.outcomes.table import Outcome, Walk
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.fixtures import WITHOUT_AGENT
from tests.support.producer import Producer
from tests.support.waiting import POLL_SECONDS
from tests.support.worker import WorkerProcess

APP = "tests.integration.outcomes.app"
ROW_OF = {row.name: row for row in ROWS}
REPORT_TIMEOUT = 40.0
"""Seconds from the sending of the last row until all must be reported; the machine may be busy."""
CONCURRENCY = 8
"""Number of rows that may occupy a process or thread for seconds at the same time."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TableRun:
    """The events that were received during one run of the table."""

    broker: str
    pool: str
    queue: str
    worker: str
    """The worker's name."""
    events: dict[str, list[Event]] = field(repr=False)
    """Events by the row's name, sorted by timestamp, without duplicates."""
    others: dict[str, list[Event]] = field(repr=False)
    """The same of jobs that belong to no row, such as a task's children, by their ids."""
    duplicates: list[Event]
    faults: list[str]
    log: Callable[[], str]

    def expected(self, row: Outcome) -> Walk | None:
        return row.walk(self.pool, version(), self.broker)

    def walk(self, row: Outcome) -> Walk:
        """Return the walk of a row's job, without reports of progress."""
        return walk_of_events(self.events.get(row.name, []))


def run_table(broker: Broker, pool: str, directory: Path) -> TableRun:
    """Send every row that `pool` can run, wait until all are reported as expected or time is up, and end the worker."""
    endpoint = Endpoint()
    env = agent_env(endpoint, directory)
    worker = WorkerProcess(directory, broker, app=APP, pool=pool, concurrency=CONCURRENCY, env=env)
    try:
        ids = send_all(worker, env, directory)
        deadline = time.monotonic() + REPORT_TIMEOUT
        while time.monotonic() < deadline and not all_reported(endpoint, broker, pool, ids):
            time.sleep(POLL_SECONDS)
        worker.process.stop(grace=20.0)
        return collect_run(endpoint, broker, pool, worker.hostname, ids, worker.tail)
    finally:
        worker.teardown()
        endpoint.close()


def send_all(worker: WorkerProcess, env: dict[str, str], directory: Path) -> dict[str, str]:
    """Send every row that `worker` can run, from producers with `env`; return the jobs' ids by the rows' names."""
    ids: dict[str, str] = {}
    for producer in PRODUCERS:
        ids |= _send(worker, producer, {**env, **WITHOUT_AGENT} if producer == "without agent" else env, directory)
    missing = {row.name for row in possible_rows(worker.pool, worker.broker.name)} - set(ids)
    assert not missing, f"no producer has sent {missing}"
    return ids


def collect_run(
    endpoint: Endpoint, broker: Broker, pool: str, worker: str, ids: dict[str, str], log: Callable[[], str]
) -> TableRun:
    """Return the events that the endpoint received of the rows' jobs, whose ids are `ids`, and of others."""
    jobs = endpoint.jobs()
    events = {name: jobs.pop(external_id, []) for name, external_id in ids.items()}
    return TableRun(broker.name, pool, broker.queue, worker, events, jobs, endpoint.duplicates, endpoint.faults, log)


def agent_env(endpoint: Endpoint, directory: Path) -> dict[str, str]:
    """Return the agent's settings for one run of the table, and the directory in which rows may create files."""
    state = directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(state),
        "SLUICE_FLUSH_INTERVAL": "0.1",
        "SLUICE_HEARTBEAT_INTERVAL": "0",
        "ROWS_DIRECTORY": str(directory),
    }


def walk_of_events(events: list[Event]) -> Walk:
    """Return the walk of a job; progress, which repeats `active`, is not a step."""
    return tuple(
        (event["job"]["state"], event["job"].get("attempt")) for event in events if "progress" not in event["job"]
    )


def _send(worker: WorkerProcess, producer: str, env: dict[str, str], directory: Path) -> dict[str, str]:
    sender = Producer(directory, worker.broker, env=env).start(
        f"import sys; sys.argv[1:] = {[worker.pool, worker.broker.name, producer]!r}\n"
        "from tests.integration.outcomes.send import main; main()"
    )
    try:
        if sender.wait(REPORT_TIMEOUT * 2) != 0:
            pytest.fail(f"the rows {producer} could not be sent\n{sender.tail()}\n{worker.tail()}", pytrace=False)
        ids: dict[str, str] = json.loads(sender.logs().splitlines()[-1])
        return ids
    finally:
        sender.stop()


def all_reported(endpoint: Endpoint, broker: Broker, pool: str, ids: dict[str, str]) -> bool:
    """Return whether all rows have their final walks."""
    jobs = endpoint.jobs()
    return all(
        walk_of_events(jobs.get(external_id, [])) == ROW_OF[name].walk(pool, version(), broker.name)
        for name, external_id in ids.items()
    )
