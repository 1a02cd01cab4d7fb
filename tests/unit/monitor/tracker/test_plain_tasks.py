"""The commonest events take fewer steps: what is recorded and emitted is the same as in the ordinary way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from typing import Any, NamedTuple

import pytest

from sluice_agent.lifecycle.agent_fields import AGENT, CREATED_AT
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.tasks import Run, Task
from tests.unit.monitor.cluster import CONNECTION, PID, START, WORKER, Cluster, Event

FIRST, SECOND = "0b6d5b47-6a5e-4b7c-8a40-3d8d8f0a5a01", "5a9f4f0e-0f6c-4b1d-9d31-0c4c4f6a7b02"
PLAIN_STEPS = ("record_plain_receipt", "record_plain_start", "record_plain_success")


class Step(NamedTuple):
    """An event, or the reply to an inspection (`kind` is its command), with what is odd about it."""

    kind: str
    values: Any = ()
    sender: tuple[str, int] = (WORKER, PID)
    offset: float = 0.0
    """Seconds by which the sender's clock is ahead of the true time."""
    after: float = 0.001
    """Seconds since the step before."""


MESSAGES: list[dict[str, Any]] = [
    {},
    {"root_id": SECOND},
    {"root_id": "chosen"},
    {"root_id": None},
    {"root_id": 5},
    {"parent_id": SECOND},
    {"eta": "2026-09-22T12:00:00"},
    {"expires": "2026-09-22T12:00:00"},
    {"retries": 1},
    {"retries": 1, "parent_id": SECOND},
    {"args": "(3,)"},
    {"args": ["(3,)"]},
    {"name": ""},
    {"name": None},
    {"name": 5},
    {"name": "ignored"},
    {"name": "\ud800 name"},
    {"queue": "q", "exchange": "", "routing_key": "q"},
    {AGENT: CONNECTION, CREATED_AT: timestamp(START - 100)},
    {AGENT: CONNECTION, CREATED_AT: timestamp(START + 100)},
    {AGENT: CONNECTION, CREATED_AT: "1999-05-01T00:00:00Z"},
]
VITALS = {"freq": 2.0, "active": 1, "sw_ver": "5.7.0", "sw_sys": "Linux"}
REQUEST = {"id": FIRST, "name": "app.add", "delivery_info": {"priority": 3, "exchange": "", "routing_key": "other"}}
RUNNING = Step("active", [{**REQUEST, "time_start": START}])
RUN = [Step("task-received"), Step("task-started"), Step("task-succeeded")]
SENT, REPLACEMENT = Step("task-sent"), Step("task-sent", {"args": "(3,)"})
ODD = [
    *(Step(kind, message) for kind in ("task-received", "task-sent") for message in MESSAGES),
    *(Step("task-succeeded", {"runtime": runtime}) for runtime in (0, 1, 1234.5678901, -1.0, 2e9, None, float("nan"))),
    Step("task-started"),
    Step("task-failed", {"exception": "ValueError('no')"}),
    Step("task-retried", {"exception": "ValueError('no')"}),
    Step("task-revoked", {"terminated": True}),
    Step("task-rejected", {"requeue": True}),
    Step("task-rejected", {"requeue": False}),
    Step("task-cancelled"),
    Step("worker-heartbeat", {**VITALS, AGENT: CONNECTION}),
    Step("worker-online", {**VITALS, "processed": 0}),
    Step("worker-offline"),
    RUNNING,
    Step("reserved", [REQUEST]),
    Step("active_queues", [{"name": "only"}]),
]
CLOCKS = (-1e10, -1e9, -3600.0, -0.01, -0.001, -0.001 + 1e-6, -0.001 + 2e-6, -0.001 + 3e-6, 1e-6, 3600.0, 1e9)
"""Offsets of a clock: by its own time, some of these make an event the first in its task's life."""


def histories() -> Iterator[list[Step]]:
    """Yield a plain job's events with each oddity at each place, and before or in place of each event."""
    for run in (RUN, [SENT, *RUN]):
        yield run
        yield [*run, *run]
        for after in (0.001, 4.0):
            yield [run[0], SENT, REPLACEMENT, run[1]._replace(after=after), *run[2:]]
        yield [Step("task-received", {"name": ""}), RUNNING, *run[1:]]
        yield [Step("task-sent", {"uuid": SECOND, AGENT: CONNECTION}), *run]
        for place, clock in product(range(len(run)), CLOCKS):
            yield [step._replace(offset=clock if number == place else 0.0) for number, step in enumerate(run)]
        for place, odd, sender, after in product(range(len(run) + 1), ODD, ((WORKER, PID), (WORKER, 2)), (0.001, 4.0)):
            step = odd._replace(sender=sender)
            rest = run[place:]
            if rest:
                rest = [rest[0]._replace(after=after), *rest[1:]]
            yield [*run[:place], step, *rest]
            if rest and step.kind == rest[0].kind and after == 4.0:
                yield [*run[:place], step, *rest[1:]]


def outcome(steps: list[Step], external_id: str, *, is_ordinary: bool) -> tuple[list[Event], list[Any]]:
    """Return what a cluster emits and records of these steps; with `is_ordinary` none of them is a plain one."""
    cluster = Cluster(ignore_tasks=("ignored",))
    if is_ordinary:
        for name in PLAIN_STEPS:
            setattr(cluster.tracker._recorder, name, lambda *_: False)
    for step in steps:
        cluster.now += step.after
        cluster.tracker.tick(cluster.now)
        if isinstance(step.values, list):
            cluster.tracker.on_reply(WORKER, step.kind, step.values)
            continue
        event = cluster.event(step.kind, *step.sender)
        event["timestamp"] = cluster.now + step.offset
        if step.kind.startswith("task-"):
            event["uuid"] = external_id
        if step.kind in ("task-received", "task-sent"):
            event.update(name="app.add", args="(1, 2)", kwargs="{}", root_id=external_id, parent_id=None, retries=0)
        if step.kind == "task-succeeded":
            event.update(result="3", runtime=0.5)
        cluster.tracker.take({**event, **dict(step.values)})
    cluster.wait(3)
    assert not cluster.dropped
    tracker = cluster.tracker
    running = [list(worker.running) for worker in tracker._workers.all()]
    return cluster.emitted, [running, *(_recorded(record) for task in tracker._tasks for record in (task, *task.runs))]


def _recorded(record: Task | Run) -> list[Any]:
    """Return the values of all fields, but for other records, and what only makes events cheaper."""
    left_out = {"is_plain", "encoder", "previous", "last_run", "successor", "pending"}
    return [getattr(record, field.name) for field in fields(record) if field.name not in left_out]


def test_both_ways_emit_and_record_the_same() -> None:
    """Otherwise a job's history would depend on which of its events are common, and a server keep some events twice."""
    for steps in histories():
        for external_id in (FIRST, 'a "chosen" id') if steps == RUN else (FIRST,):
            plain = outcome(steps, external_id, is_ordinary=False)
            assert plain == outcome(steps, external_id, is_ordinary=True), steps


def test_most_jobs_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each event costs twice the time, and a monitor of a large cluster falls behind."""
    cluster = Cluster()
    cluster.task("received", FIRST)
    monkeypatch.setattr(Recorder, "record", lambda *_, **__: pytest.fail("the ordinary way"))
    cluster.run("started", "succeeded", external_id=FIRST)
    assert cluster.walk(FIRST) == "queued active completed"


def test_captured_arguments_take_the_ordinary_way() -> None:
    """Otherwise the arguments and results that a user has asked for would be missing from most jobs."""
    cluster = Cluster(redact=lambda _, value: value)
    cluster.task("received", FIRST)
    cluster.run("started", "succeeded", external_id=FIRST)
    queued, _, completed = cluster.jobs(FIRST)
    assert (queued["job"]["extensions"]["args"], completed["job"]["extensions"]["result"]) == ("(1, 2)", "3")
