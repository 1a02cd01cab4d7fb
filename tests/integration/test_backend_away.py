"""An unavailable result backend: the ends of jobs are reported all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.endpoint import Endpoint
from tests.support.process import free_port
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

ENDS = {
    "fail": "ValueError: ",
    "kill_self": "WorkerLostError: ",
    "hard_limited": "TimeLimitExceeded: ",
    "autoretry_exhausted": "ValueError: attempt 3",
}


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """A worker of four processes whose result backend is a Redis that does not run."""
    env = {"RESULT_BACKEND": f"redis://127.0.0.1:{free_port()}/0"}
    conf = {"result_backend_transport_options": {"retry_policy": {"max_retries": 0}}}
    return start_worker(concurrency=4, env=env, conf=conf)


@pytest.mark.long
def test_a_failure_is_reported_without_a_backend(
    endpoint: Endpoint, worker: WorkerProcess, producer: Callable[..., Producer]
) -> None:
    """Otherwise a job that fails while the backend is unavailable would stay active for ever: no signal is fired."""
    sender = producer(env={"RESULT_BACKEND": "disabled://"})
    jobs = dict(zip(ENDS, sender.send_all(*((task,) for task in ENDS)), strict=True))
    for task, error in ENDS.items():
        wait_until(
            lambda job=jobs[task]: endpoint.states(job)[-1:] == ["failed"], 30, f"{task} did not fail", worker.tail
        )
        events = endpoint.jobs()[jobs[task]]
        assert events[-1]["job"]["error"].startswith(error)
    states = endpoint.states(jobs["autoretry_exhausted"])
    assert states == ["queued", *["active", "retrying"] * 2, "active", "failed"]
    assert worker.terminate().code == 0
    assert endpoint.duplicates == []
