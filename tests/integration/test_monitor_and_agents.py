"""Workers whose agents start, stop, die and fail, beside a monitor that reports to a separate endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.outcomes.running_job import RunningJob, walk_of
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

DONE = "queued active completed"
COVERED_WITHIN = 10.0  # seconds, on a busy machine; the monitor inspects an unknown worker within one

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def monitor_endpoint() -> Iterator[Endpoint]:
    """The endpoint of the monitor alone."""
    yield (endpoint := Endpoint())
    endpoint.close()


@pytest.fixture
def sidecar(start_sidecar: Callable[..., Sidecar], monitor_endpoint: Endpoint) -> Sidecar:
    """The monitor."""
    return start_sidecar("redis", SLUICE_API_URL=monitor_endpoint.url)


def is_done(endpoint: Endpoint, job: str) -> bool:
    """Wait until the whole walk of the job is reported."""
    return wait_until(
        lambda: walk_of(endpoint, job) == DONE, COVERED_WITHIN, "not reported", lambda: walk_of(endpoint, job)
    )


@pytest.mark.parametrize("args", [["-E"], ["-E", "--without-heartbeat"]], ids=["heartbeats", "answers alone"])
def test_a_worker_returns_without_its_agent(
    start_worker: StartWorker,
    producer: Callable[..., Producer],
    sidecar: Sidecar,
    endpoint: Endpoint,
    monitor_endpoint: Endpoint,
    args: list[str],
) -> None:
    """Its jobs must be reported once while it has an agent, and also after a deployment without it."""
    sender = producer("redis", agent=False)
    first = start_worker(broker="redis", pool="threads", name="one@test", args=args, loglevel="DEBUG")
    with_agent = sender.send("add", 1, 2)
    assert is_done(endpoint, with_agent)
    wait_until(lambda: "received method stats" in first.logs(), COVERED_WITHIN, "it was not inspected", first.tail)
    assert first.terminate().code == 0
    start_worker(broker="redis", pool="threads", name="one@test", args=args, agent=False)
    without = sender.send("add", 1, 2)
    assert is_done(monitor_endpoint, without)
    assert sidecar.terminate() == 0
    assert monitor_endpoint.jobs().keys() == {without}


def test_a_worker_that_is_killed_and_one_whose_agent_can_not_write(
    start_worker: StartWorker,
    producer: Callable[..., Producer],
    sidecar: Sidecar,
    endpoint: Endpoint,
    monitor_endpoint: Endpoint,
    tmp_path: Path,
) -> None:
    """No agent reports the outcome of a dead worker's job, nor anything of a worker without a journal."""
    worker = start_worker(broker="redis", pool="threads", concurrency=1, args=["-E"])
    job = RunningJob(producer("redis"), tmp_path, endpoint)
    job.wait_for_walk("queued active")
    worker.kill()
    wait_until(lambda: walk_of(monitor_endpoint, job.id) == "unknown", 30, "its death is not reported", sidecar.tail)
    assert monitor_endpoint.workers()[worker.hostname][-1]["worker"]["state"] == "offline"

    (no_directory := tmp_path / "a file").touch()
    start_worker(broker="redis", pool="threads", args=["-E"], env={"SLUICE_STATE_DIR": str(no_directory)})
    job = producer("redis", agent=False).send("add", 1, 2)
    assert is_done(monitor_endpoint, job)
