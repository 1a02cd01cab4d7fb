"""The test harness: real workers on every broker and pool, without the agent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from pytest_celery import CeleryTestSetup

from tests.integration.tasks import add, noop
from tests.support.brokers import BROKERS
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import APP, POOLS, WorkerProcess

WITHOUT_AGENT = {"agent": False}

USUAL = list(zip((*BROKERS, "redis"), POOLS, strict=True))  # each broker and each pool
PAIRS = list(product(BROKERS, POOLS)) if os.environ.get("MATRIX") == "full" else USUAL

ENDINGS: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "noop": ((), "SUCCESS", "None"),
    "tsum": (([1, 2, 3],), "SUCCESS", "6"),
    "sleep": ((0.01,), "SUCCESS", "0.01"),
    "publish_children": ((2,), "SUCCESS", "["),
    "fail": (("why",), "FAILURE", "why"),
    "retry_then_succeed": ((2,), "SUCCESS", "3"),
    "retry_exhausted": ((), "FAILURE", "attempt 3"),
    "retry_exhausted_bare": ((), "FAILURE", "Can't retry"),
    "autoretry_exhausted": ((), "FAILURE", "attempt 3"),
    "unpicklable_error": ((), "FAILURE", "holds a lock"),
    "unprintable_error": ((), "FAILURE", ""),
    "big_error": ((20_000,), "FAILURE", "x" * 20_000),
    "surrogate_error": ((), "FAILURE", "no such file"),
    "unserialisable_result": ((), "FAILURE", ""),
    "exit_with": ((3,), "FAILURE", "exitcode 3"),
    "kill_self": ((), "FAILURE", "signal 9"),
    "soft_limited": ((), "FAILURE", "SoftTimeLimitExceeded"),
    "hard_limited": ((), "FAILURE", "TimeLimitExceeded"),
    "reject": ((True,), "SUCCESS", "redelivered"),
}


@pytest.mark.parametrize(("broker_name", "pool"), PAIRS)
@pytest.mark.parametrize("worker_options", [WITHOUT_AGENT], ids=[""])
def test_a_worker_returns_a_result(celery_setup: CeleryTestSetup, pool: str) -> None:
    """If Celery itself did not work on a broker and pool, no result there would be due to the agent."""
    assert celery_setup.ready()
    assert add.delay(2, 3).get(timeout=20, interval=0.05) == 5
    assert celery_setup.app.conf.task_default_queue == celery_setup.worker.worker_queue
    assert len(celery_setup.worker.container.pids()) == (2 if pool == "prefork" else 0)


@pytest.mark.parametrize("broker_name", ["redis"])
@pytest.mark.parametrize("pool", ["prefork"])
@pytest.mark.parametrize("worker_options", [{**WITHOUT_AGENT, "args": ["--max-tasks-per-child=1"], "concurrency": 1}])
def test_nodes_can_be_killed_and_restarted(celery_setup: CeleryTestSetup) -> None:
    """Users fear crashes most; the nodes must crash like their processes."""
    worker = celery_setup.worker.container
    before = worker.pids()
    assert noop.delay().get(timeout=20) is None
    wait_until(lambda: worker.pids() and worker.pids() != before, message="the child was not recycled")
    celery_setup.worker.kill()
    assert worker.exit_code == -signal.SIGKILL
    celery_setup.worker.restart()
    celery_setup.broker.restart()
    assert add.delay(1, 1).get(timeout=20) == 2


def test_start_worker_and_producer_meet(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], tmp_path: Path
) -> None:
    """If the producer sent to another queue than the worker's, every test for lost events would pass."""
    worker = start_worker(agent=False, pool="threads")
    started, release = tmp_path / "started", tmp_path / "release"
    sender = producer(agent=False)
    task_id = sender.send("hold", str(started), str(release))
    wait_until(started.exists, 10, "the task did not start", worker.tail)
    release.touch()
    assert worker.broker.app().AsyncResult(task_id).get(timeout=10) is True
    code = "import json; from tests.integration.tasks import add; print(json.dumps(add.delay(1, 2).get(timeout=10)))"
    assert sender.run_json(code) == 3
    ending = worker.terminate()
    assert ending.code == 0
    assert ending.seconds < 30


def test_tasks_end_according_to_their_names(start_worker: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    """Tests that provoke an end rely on Celery announcing that end."""
    worker = start_worker(
        agent=False, concurrency=1
    )  # with two processes a retry's success may be stored before its retry
    app = worker.broker.app()
    for name, (args, state, text) in ENDINGS.items():  # one at a time: a child that dies may have reserved another task
        result = app.send_task(f"{APP}.{name}", args)
        wait_until(result.ready, 30, f"{name} did not end", worker.tail)
        assert result.state == state, name
        assert text in result_of(result), name
    assert app.send_task(f"{APP}.kill_self_once", (str(tmp_path / "died"),)).get(timeout=60) == "second run"
    ignored = app.send_task(f"{APP}.ignore").id
    wait_until(lambda: f"{APP}.ignore[{ignored}] ignored" in worker.logs(), message="not ignored", context=worker.tail)


def result_of(result: AsyncResult) -> str:
    stored = result.result
    try:
        return f"{type(stored).__name__}: {stored}"
    except RuntimeError as error:
        return str(error)
