"""The API against its own description: schemathesis sends what the description allows, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from tests.support.examples import examples
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.actions.conftest import RecordedBroker
from tests.unit.server.events import CONNECTION, at, ingest, job_event

NO_END = "/api/events/stream"
OPAQUE = "positive_data_acceptance"  # of a cursor no description can give an example that a list accepts
OPEN_ON_LOOPBACK = "ignored_auth"
SLOW_IS_FINE = "--suppress-health-check=too_slow"  # on a busy machine requests are generated slowly


def _with_data(server: LocalSluice, key: str) -> None:
    header = {"type": "worker_heartbeat", "timestamp": at(3), "framework": "celery", "connectionId": CONNECTION}
    worker = {"externalId": "celery@w", "hostname": "w", "state": "heartbeat"}
    ingest(
        server.client({"Authorization": f"Bearer {key}"}),
        job_event("queued", 0, createdAt=at(0), queue="mail"),
        job_event("active", 1, startedAt=at(1), workerId="celery@w"),
        job_event("failed", 2, error="E: refused", workerId="celery@w", extensions={"args": [1], "rootId": "job-1"}),
        {**header, "worker": worker},
        {**header, "type": "queue_snapshot", "queue": {"name": "mail", "depth": 3}},
    )


@pytest.fixture(scope="module")
def on_loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    with local_sluice(tmp_path_factory.mktemp("loopback") / "s.db") as server:
        _with_data(server, "sk_any")
        yield server


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    options = AccessOptions("0.0.0.0", connection=CONNECTION, api_key="sk_of_the_connection")
    with local_sluice(tmp_path_factory.mktemp("exposed") / "s.db", options=options) as server:
        _with_data(server, "sk_of_the_connection")
        yield server


def run(server: LocalSluice, directory: Path, *arguments: str) -> None:
    """Send generated requests to `server`. Fails with all of them that were answered otherwise than documented."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/openapi.json",
        "--checks=all", f"--exclude-path={NO_END}", f"--max-examples={examples(20)}", "--seed=1", "--no-color",
        "--warnings=off", SLOW_IS_FINE, *arguments,
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.long
def test_without_a_key_on_loopback(on_loopback: LocalSluice, tmp_path: Path) -> None:
    """A generated client would otherwise meet a 500, or an answer that it can't read.

    The phase that covers each value of each parameter runs below: it takes most of the time.
    """
    run(on_loopback, tmp_path, f"--exclude-checks={OPAQUE},{OPEN_ON_LOOPBACK}", "--phases=fuzzing,stateful")


@pytest.mark.long
def test_with_a_key_where_others_can_reach_the_server(exposed: LocalSluice, tmp_path: Path) -> None:
    """Somebody without a key, or with a wrong one, could otherwise read jobs; a generated client would fail."""
    accounts = exposed.access.accounts
    key = accounts.create_key(accounts.open_connection(CONNECTION)[0], Role.VIEWER)
    run(exposed, tmp_path, f"--exclude-checks={OPAQUE}", f"--header=Authorization: Bearer {key.secret}")


@pytest.mark.long
def test_an_operator_with_a_broker(tmp_path: Path) -> None:
    """An operator's client would meet a 500 where it acts on jobs, or an answer that it can't read."""
    broker = ActionOptions(Brokers(default=RecordedBroker()), ("app.*",))
    options = AccessOptions("0.0.0.0", connection=CONNECTION, api_key="sk_of_the_connection")
    with local_sluice(tmp_path / "s.db", options=options, actions=broker) as server:
        _with_data(server, "sk_of_the_connection")
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection(CONNECTION)[0], Role.OPERATOR)
        acting = ("--include-path-regex=(retry|revoke|bulk)", f"--header=Authorization: Bearer {key.secret}")
        run(server, tmp_path, f"--exclude-checks={OPAQUE}", *acting)
