"""The validator refuses the same events as the vendor, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.wire import body_faults, faults

CONNECTION = "3f0c8f0e-7f0b-4b7e-9d43-5a1a0c5d2b11"


def event(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "job_state_change",
        "timestamp": "2026-02-28T10:00:00.123456Z",
        "framework": "celery",
        "connectionId": CONNECTION,
    }
    if not {"job", "worker", "queue"} & set(changes):
        fields["job"] = job()
    return {**fields, **changes}


def job(**changes: Any) -> dict[str, Any]:
    return {"externalId": "a", "name": "app.add", "state": "active", **changes}


WORKER = {
    "externalId": "celery@a",
    "hostname": "a",
    "state": "heartbeat",
    "queues": ["celery"],
    "metadata": {"x": [None]},
}

VALID = [
    event(),
    event(
        job=job(
            queue="q",
            previousState="queued",
            workerId="w" * 512,
            attempt=1,
            maxRetries=0,
            progress=1,
            error="e" * 10_000,
            stacktrace="s" * 50_000,
            createdAt="2024-02-29T00:00:00Z",
            startedAt="2024-02-29T00:00:00.1Z",
            completedAt="2024-02-29T00:00:00.123Z",
            extensions={"any_thing": {"deep": [1, None, "é"]}},
        )
    ),
    event(type="worker_heartbeat", worker=WORKER),
    event(type="queue_snapshot", queue={"name": "celery", "depth": 0, "consumers": 0}),
]

BROKEN = {
    "no-job": event(job=None),
    "job-missing": {key: value for key, value in event().items() if key != "job"},
    "two-payloads": event(job=job(), queue={"name": "q", "depth": 1}),
    "payload-of-other-type": event(type="queue_snapshot", job=job()),
    "unknown-type": event(type="job.state_change"),
    "unknown-field": event(extra=1),
    "unknown-job-field": event(job=job(args=[])),
    "snake-case": event(job=job(max_retries=1)),
    "null": event(job=job(queue=None)),
    "null-extensions": event(job=job(extensions=None)),
    "offset": event(timestamp="2026-02-28T10:00:00+00:00"),
    "no-zone": event(timestamp="2026-02-28T10:00:00"),
    "no-real-date": event(timestamp="2026-02-30T10:00:00Z"),
    "hour-24": event(timestamp="2026-02-28T24:00:00Z"),
    "number-for-time": event(timestamp=1_700_000_000),
    "newline-after-time": event(timestamp="2026-02-28T10:00:00Z\n"),
    "framework": event(framework="rq"),
    "connection": event(connectionId="main"),
    "state": event(job=job(state="started")),
    "previous-state": event(job=job(previousState="pending")),
    "attempt-0": event(job=job(attempt=0)),
    "attempt-true": event(job=job(attempt=True)),
    "attempt-float": event(job=job(attempt=1.0)),
    "progress-above": event(job=job(progress=1.01)),
    "progress-nan": event(job=job(progress=float("nan"))),
    "long-id": event(job=job(externalId="x" * 513)),
    "long-name": event(job=job(name="x" * 1025)),
    "long-queue": event(job=job(queue="x" * 256)),
    "long-worker": event(job=job(workerId="x" * 513)),
    "long-error": event(job=job(error="x" * 10_001)),
    "long-stacktrace": event(job=job(stacktrace="x" * 50_001)),
    "extensions-list": event(job=job(extensions=[])),
    "extensions-infinity": event(job=job(extensions={"a": [float("inf")]})),
    "surrogate": event(job=job(error="\udcff")),
    "surrogate-key": event(job=job(extensions={"\ud800": 1})),
    "worker-state": event(type="worker_state_change", worker={**WORKER, "state": "up"}),
    "worker-queues": event(type="worker_state_change", worker={**WORKER, "queues": [1]}),
    "worker-field": event(type="worker_state_change", worker={**WORKER, "extensions": {}}),
    "depth-missing": event(type="queue_snapshot", queue={"name": "q"}),
    "depth-text": event(type="queue_snapshot", queue={"name": "q", "depth": "1"}),
    "queue-field": event(type="queue_snapshot", queue={"name": "q", "depth": 1, "metadata": {}}),
    "list": [],
}


@pytest.mark.parametrize("good", VALID, ids=range(len(VALID)))
def test_valid_events_have_no_faults(good: dict[str, Any]) -> None:
    """A validator that refuses valid events would make engineers search for faults that don't exist."""
    assert faults(good) == []
    assert body_faults(json.dumps({"events": [good]}).encode()) == []


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
def test_each_breach_is_named(bad: Any) -> None:
    """The vendor would refuse events with a breach that is missed here, and the user would lose them."""
    assert faults(bad)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"events": null}',
        b'{"events": [], "sdk": "x"}',
        b'{"events": [], "events": []}',
        b"\xff",
        b'{"events": [NaN]}',
        b"[" * 100_000,
        json.dumps({"events": [event(job=job(error="\ud83d"))]}).encode(),
        json.dumps({"events": [event(job=job(extensions={"a": "@"}))]}).replace('"@"', "1e999").encode(),
    ],
)
def test_broken_bodies_are_named(body: bytes) -> None:
    """The vendor would refuse a body that is no valid batch, with every event in it."""
    assert body_faults(body)
