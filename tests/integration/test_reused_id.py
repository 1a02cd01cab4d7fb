"""One id for many jobs, such as "nightly-report"."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.outcomes.running_job import walk_of
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

DONE = "queued active completed"


def test_each_job_under_one_id_is_reported(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], endpoint: Endpoint
) -> None:
    """Otherwise a nightly report would be seen in its first night only, or as a job that is never published."""
    worker = start_worker(broker="redis", pool="threads")
    with_agent, without = producer("redis"), producer("redis", agent=False)
    for sender, name in ((with_agent, "nightly-report"), (without, "monthly-report")):
        for times in range(1, 4):
            sender.run(f"from tests.integration import tasks; tasks.add.apply_async((1, 2), task_id={name!r})")
            walk = " ".join([DONE] * times)
            wait_until(
                lambda name=name, walk=walk: walk_of(endpoint, name) == walk, 20, f"{name}: {times}", worker.tail
            )
    assert endpoint.duplicates == []
