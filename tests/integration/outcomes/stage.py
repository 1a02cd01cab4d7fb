"""One worker, one endpoint and the producers that play the whole table through on one broker and pool."""

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
from tests.integration.outcomes.send import WAVES, able, version
from tests.integration.outcomes.table import Outcome, Walk
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.fixtures import WITHOUT_AGENT
from tests.support.producer import Producer
from tests.support.waiting import POLL_SECONDS
from tests.support.worker import WorkerProcess

APP = "tests.integration.outcomes.app"
ROW_OF = {row.name: row for row in ROWS}
LONGEST = 40.0
"""Seconds from the last row's sending until all must be told; the machine may be busy with other things."""
CONCURRENCY = 8
"""So many rows that hold a process or thread for seconds run beside the others."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """What was told while the table was played."""

    broker: str
    pool: str
    queue: str
    events: dict[str, list[Event]] = field(repr=False)
    """By the row's name, sorted by timestamp, each once."""
    others: dict[str, list[Event]] = field(repr=False)
    """The same of jobs that are no row's own, such as a task's children, by their ids."""
    duplicates: list[Event]
    faults: list[str]
    log: Callable[[], str]

    def expected(self, row: Outcome) -> Walk | None:
        return row.walk(self.pool, version(), self.broker)

    def walk(self, row: Outcome) -> Walk:
        """What was told of a row, with the reports of progress left out."""
        return folded(self.events.get(row.name, []))


def play(broker: Broker, pool: str, directory: Path) -> Played:
    """Send every row that `pool` can do, wait until each is told as expected or time is up, and end the worker."""
    endpoint = Endpoint()
    env = agent_env(endpoint, directory)
    worker = WorkerProcess(directory, broker, app=APP, pool=pool, concurrency=CONCURRENCY, env=env)
    try:
        ids = send_all(worker, env, directory)
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline and not all_told(endpoint, broker, pool, ids):
            time.sleep(POLL_SECONDS)
        worker.process.stop(grace=20.0)
        return played_by(endpoint, broker, pool, ids, worker.tail)
    finally:
        worker.teardown()
        endpoint.close()


def send_all(worker: WorkerProcess, env: dict[str, str], directory: Path) -> dict[str, str]:
    """Send every row that `worker` can do, from producers that have `env`; the jobs' ids by the rows' names."""
    ids: dict[str, str] = {}
    for wave in WAVES:
        env_of_wave = {**env, **WITHOUT_AGENT} if wave == "bare" else env
        ids |= _send(worker, wave, env_of_wave, directory)
    missing = {row.name for row in able(worker.pool, worker.broker.name)} - set(ids)
    assert not missing, f"no wave has sent {missing}"
    return ids


def played_by(endpoint: Endpoint, broker: Broker, pool: str, ids: dict[str, str], log: Callable[[], str]) -> Played:
    """What the endpoint was told of the rows' jobs, whose ids are `ids`, and of others."""
    told = endpoint.jobs()
    events = {name: told.pop(external_id, []) for name, external_id in ids.items()}
    return Played(broker.name, pool, broker.queue, events, told, endpoint.duplicates, endpoint.faults, log)


def agent_env(endpoint: Endpoint, directory: Path) -> dict[str, str]:
    """The agent's settings for one play, and where rows may leave files."""
    state = directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(state),
        "SLUICE_FLUSH_INTERVAL": "0.1",
        "SLUICE_HEARTBEAT_INTERVAL": "0",
        "ROWS_FOLDER": str(directory),
    }


def folded(events: list[Event]) -> Walk:
    """The walk of a job, where progress, which repeats `active`, is no step."""
    return tuple(
        (event["job"]["state"], event["job"].get("attempt")) for event in events if "progress" not in event["job"]
    )


def _send(worker: WorkerProcess, wave: str, env: dict[str, str], directory: Path) -> dict[str, str]:
    sender = Producer(directory, worker.broker, env=env).start(
        f"import sys; sys.argv[1:] = {[worker.pool, worker.broker.name, wave]!r}\n"
        "from tests.integration.outcomes.send import main; main()"
    )
    try:
        if sender.wait(LONGEST * 2) != 0:
            pytest.fail(f"the {wave} rows could not be sent\n{sender.tail()}\n{worker.tail()}", pytrace=False)
        ids: dict[str, str] = json.loads(sender.logs().splitlines()[-1])
        return ids
    finally:
        sender.stop()


def all_told(endpoint: Endpoint, broker: Broker, pool: str, ids: dict[str, str]) -> bool:
    """Whether each row's walk is as it will be in the end."""
    told = endpoint.jobs()
    return all(
        folded(told.get(external_id, [])) == ROW_OF[name].walk(pool, version(), broker.name)
        for name, external_id in ids.items()
    )
