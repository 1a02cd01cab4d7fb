"""The promise to a new user: every event arrives, once, whichever process dies."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.accounting import assert_balanced
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import status
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

IS_LONG = os.environ.get("FAULTS") == "long"
TASKS = 2_000 if IS_LONG else 500
FORKS = 2_000 if IS_LONG else 50
NOOPS = """
    from tests.integration.tasks import app, noop
    with app.producer_pool.acquire() as producer:
        for _ in range({count}):
            noop.apply_async(producer=producer)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "count"),
    [
        pytest.param([], TASKS, id="children that live"),
        pytest.param(["--max-tasks-per-child=50"], TASKS, id="children of 50 tasks"),
        pytest.param(["--max-tasks-per-child=1"], FORKS, id="children of one task"),
    ],
)
def test_every_transition_of_every_task_arrives_exactly_once(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., object],
    args: list[str],
    count: int,
) -> None:
    """Otherwise a recycled pool child would lose its events, and jobs would look stuck for ever."""
    worker = start_worker(args=args)
    producer().run(NOOPS.format(count=count))
    wait_until(lambda: len(job_events(endpoint)) >= 3 * count, 300, "not every transition arrived", worker.tail)
    assert worker.terminate().code == 0
    states = Counter(event["job"]["state"] for event in job_events(endpoint))
    assert states == {"queued": count, "active": count, "completed": count}
    walks = endpoint.walks()
    assert set(walks.values()) == {("queued", "active", "completed")}
    assert len(walks) == count
    assert endpoint.duplicates == []


def test_the_events_of_a_killed_child_arrive(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise the user would know nothing of the very job that an out-of-memory kill ended."""
    worker = start_worker(concurrency=1)
    *before, killed = producer().send_all(*[("add", 1, 2)] * 3, ("kill_self",))
    wait_until(lambda: "failed" in endpoint.states(killed), 20, "the killed job did not fail", worker.tail)
    assert endpoint.states(killed) == ["queued", "active", "failed"]
    last = endpoint.jobs()[killed][-1]["job"]
    assert "WorkerLostError" in last["error"]
    assert "signal 9 (SIGKILL)" in last["error"]
    assert all(endpoint.states(job) == ["queued", "active", "completed"] for job in before)


def test_an_endpoint_that_is_down_costs_nothing_but_time(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., object]
) -> None:
    """Otherwise an outage of the monitoring would stop the monitored workers, or lose a part of the history."""
    endpoint.down()
    worker = start_worker()
    sender = producer()
    code = "from tests.integration.tasks import add\nprint(sum(add.delay(i, 1).get(timeout=30) for i in range(100)))"
    assert sender.run(code).splitlines()[-1] == "5050"
    ending = worker.terminate()
    assert ending.code == 0
    assert ending.seconds < 15
    report = assert_balanced(worker.env)
    assert report["pending"] >= 300
    assert report["delivered"] == 0
    assert "ConnectError" in str(report["last_error"])

    endpoint.up()
    worker.start_again()
    wait_until(lambda: len(endpoint.jobs()) == 100, 30, "the next start did not deliver", worker.tail)
    assert worker.terminate().code == 0
    assert set(endpoint.walks().values()) == {("queued", "active", "completed")}
    assert assert_balanced(worker.env)["pending"] == 0


def test_a_revoked_key_is_logged_once_and_loses_nothing(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., object]
) -> None:
    """Otherwise a revoked key would flood the log, stop the worker, or lose events."""
    endpoint.standing(status(401))
    worker = start_worker()
    code = "from tests.integration.tasks import add\nprint([add.delay(i, 1).get(timeout=30) for i in range(20)])"
    producer().run(code)
    wait_until(lambda: len(endpoint.requests) >= 1, 10, "no request came")
    assert worker.terminate().code == 0
    assert len(warnings(worker)) == 1
    assert "401" in warnings(worker)[0]
    report = assert_balanced(worker.env)
    assert report["pending"] >= 60


@pytest.mark.parametrize("obstacle", ["under a file", "a planted link"])
def test_an_unusable_state_directory_switches_the_agent_off(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., object],
    tmp_path: Path,
    sluice_env: dict[str, str],
    obstacle: str,
) -> None:
    """Otherwise a worker in a read-only container would not start, or would write events to a link's target."""
    directory = tmp_path / "elsewhere"
    if obstacle == "under a file":
        directory.write_text("a file")
    else:
        directory.mkdir()
        (tmp_path / "target").mkdir()
        (directory / sluice_env["SLUICE_CONNECTION_ID"]).symlink_to(tmp_path / "target")
    worker = start_worker(env={"SLUICE_STATE_DIR": str(directory)})
    code = """
        import json, sluice_agent
        from tests.integration.tasks import add
        assert add.delay(1, 2).get(timeout=30) == 3
        print(json.dumps(sluice_agent.stats()))
    """
    stats = producer(env={"SLUICE_STATE_DIR": str(directory)}).run_json(code)
    assert stats == {
        "captured": 1,
        "delivered": 0,
        "rejected": 0,
        "dropped": {"journal_unavailable": 1},
        "pending": 0,
        "duplicates": 0,
    }
    assert worker.terminate().code == 0
    assert len(warnings(worker)) == 1
    assert "SLUICE_STATE_DIR" in warnings(worker)[0]
    assert endpoint.events == []
    assert not list((tmp_path / "target").glob("*")) if obstacle != "under a file" else True


def job_events(endpoint: Endpoint) -> list[dict[str, dict[str, str]]]:
    """Return all job events."""
    return [event for event in list(endpoint.events) if "job" in event]


def warnings(worker: WorkerProcess) -> list[str]:
    """Return the agent's warnings in the worker's log."""
    texts = ("sluice-agent is off", "Events can't be delivered", "The journal", "The disk")
    return [line for line in worker.logs().splitlines() if any(text in line for text in texts)]


@pytest.mark.parametrize("broker_name", ["redis", "filesystem"])
def test_a_pool_child_has_one_thread(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., object], broker_name: str
) -> None:
    """Otherwise a terminated child could die in the agent's thread while it holds the pool's lock, and all would stop.

    Without an event loop (the filesystem transport) Celery forks in another way, with other signals. The app publishes
    in each child at its start, from a hook that is connected before the agent's.
    """
    worker = start_worker(broker=broker_name, app="tests.integration.apps.hasty", env={"SLUICE_TEST_INSTALL": "0"})
    code = """
        from tests.integration.tasks import add
        print([add.delay(i, 1).get(timeout=30, interval=0.05) for i in range(20)])
    """
    producer(broker_name).run(code)
    assert [psutil.Process(pid).num_threads() for pid in worker.pids()] == [1, 1]
