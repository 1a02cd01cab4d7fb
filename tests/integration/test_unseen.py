"""Traces of the agent in the host's code: none if the worker has it, one header if only producers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

GUARDED = "tests.integration.apps.guarded"
SOURCES = {
    "request",
    "before_task_publish",
    "after_task_publish",
    "task_received",
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_retry",
    "task_failure",
    "task_revoked",
    "task_unknown",
}
HEADERS = """
    import json
    from tests.integration.tasks import headers_seen
    print(json.dumps(headers_seen.delay().get(timeout=20)))
"""


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_the_hosts_code_finds_no_trace_of_the_agent(
    pool: str,
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    tmp_path: Path,
) -> None:
    """Otherwise a task that writes its request as JSON could fail, and one that copies its headers would send ours."""
    env = {"FOUND": str(tmp_path / "found")}
    worker = start_worker(app=GUARDED, env=env, pool=pool)
    last = producer(env=env).run(f"from {GUARDED} import send_everything\nprint(send_everything())")
    wait_until(lambda: "completed" in endpoint.states(last), 40, "the last job did not end", worker.tail)

    def open_jobs() -> list[str]:
        ends = {"completed", "failed", "cancelled"}
        return [job for job in endpoint.jobs() if not ends & set(endpoint.states(job))]

    wait_until(lambda: not open_jobs(), 20, "a job did not end", open_jobs)
    findings: dict[str, set[str]] = {}
    for line in (tmp_path / "found").read_text().splitlines():
        source, _, finding = line.partition(": ")
        findings.setdefault(source, set()).add(finding)
    assert findings.keys() >= SOURCES
    assert {source: texts for source, texts in findings.items() if texts != {"clean"}} == {}
    created = [{event["job"].get("createdAt") for event in events} for events in endpoint.jobs().values()]
    assert [times for times in created if len(times) != 1 or None in times] == [], "the agent reads it from the header"


def test_one_header_remains_where_only_the_producer_has_the_agent(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """A user must know what a worker that they can't change will see, and must be able to prevent it."""
    start_worker(agent=False)
    headers = json.loads(producer().run(HEADERS))["headers"]
    assert list(headers) == ["sluice_agent"]
    assert list(headers["sluice_agent"]) == ["createdAt"]
    assert json.loads(producer(env={"SLUICE_MESSAGE_HEADER": "0"}).run(HEADERS))["headers"] is None


def test_without_the_header_every_job_is_reported_all_the_same(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """A user who can't have the header in messages must still see the outcome of jobs."""
    env = {"SLUICE_MESSAGE_HEADER": "0"}
    worker = start_worker(env=env)
    calls = {
        ("add", 1, 2): "queued active completed",
        ("retry_then_succeed", 1): "queued active retrying queued active completed",
        ("replace_self_by_chain",): "queued active queued active completed",
    }
    for job, ((name, *_), walk) in zip(producer(env=env).send_all(*calls), calls.items(), strict=True):
        wait_until(
            lambda job=job, walk=walk: " ".join(endpoint.states(job)) == walk,
            20,
            f"{name}: not as expected",
            lambda job=job: (endpoint.states(job), worker.tail(10)),
        )
