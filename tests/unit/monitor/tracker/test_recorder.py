"""The recorder: which state of a run may follow which, and that nothing else writes one."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobExtensions, JobFacts, job_id
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.monitor import tracker
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.tasks import Process, Run, Task, message_version
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore
from tests.unit.monitor.cluster import CONNECTION, START

CHANGES = {"pop", "clear", "update", "setdefault", "popitem"}
TRACKER = Path(tracker.__file__).parent
PROCESS = Process("celery@one", 11)
ACTIVE, COMPLETED, FAILED, QUEUED = JobState.ACTIVE, JobState.COMPLETED, JobState.FAILED, JobState.QUEUED
RETRYING, CANCELLED, UNKNOWN = JobState.RETRYING, JobState.CANCELLED, JobState.UNKNOWN
LIVE = {None, ACTIVE, UNKNOWN}
REPORTED_AFTER: dict[Transition, set[JobState | None]] = {
    transitions.STARTED: {None},
    transitions.SUCCEEDED: LIVE | {RETRYING},
    transitions.FAILED: LIVE | {COMPLETED},
    transitions.REJECTED: LIVE | {COMPLETED},
    transitions.RETRIED: LIVE,
    transitions.REVOKED: LIVE,
    transitions.CUT_OFF: LIVE,
    transitions.LOST_BY_CANCEL: LIVE,
    transitions.REQUEUED: LIVE | {COMPLETED, FAILED, RETRYING, CANCELLED},
}
"""The states of a run after which each transition is reported."""


class Recording:
    """A recorder with one task and one of its runs, on a worker that is known, and the lines that it has emitted."""

    def __init__(self, state: JobState | None = None) -> None:
        self.lines: list[bytes] = []
        sink = Sink(emit=self.lines.append, drop=lambda _: None, connection_id=CONNECTION)
        self.workers = WorkerStore(Timers(), self._on_new)
        self.worker = self.workers.touch_process(PROCESS)
        self.recorder = Recorder(sink, self.workers)
        self.task = Task("job-1", name="app.add")
        self.run = self.task.add_run(PROCESS)
        self.run.state = state

    def record(self, transition: Transition) -> None:
        self.recorder.record(self.task, self.run, transition, START)

    def _on_new(self, worker: TrackedWorker) -> None:
        worker.emit = self.lines.append


@pytest.mark.parametrize(("transition", "before"), product(REPORTED_AFTER, [None, *JobState]))
def test_a_transition_that_may_not_follow_is_not_reported(transition: Transition, before: JobState | None) -> None:
    """Celery announces some ends twice, and some after another: the user would see a job end twice."""
    recording = Recording(before)
    recording.record(transition)
    is_reported = before in REPORTED_AFTER[transition]
    assert len(recording.lines) == is_reported
    assert recording.run.state is (transition.state if is_reported else before)


RANDOM_ID, OTHER_ID = "0d6c7ab4-3f5b-4d59-9a3e-6d1f6a1b2c3d", "1e6c7ab4-3f5b-4d59-9a3e-6d1f6a1b2c3d"


@pytest.mark.parametrize("created", [None, START - 1, START + 1])
@pytest.mark.parametrize(
    ("message", "redelivered", "extensions"),
    [
        ({}, False, {}),
        ({"external_id": "job-1"}, False, {"rootId": "job-1"}),
        ({"external_id": 'it is "7"', "root_id": "\U0001f600"}, False, {}),
        ({"root_id": OTHER_ID}, False, {"rootId": OTHER_ID}),
        ({"root_id": 'it is "7"'}, False, {"rootId": 'it is "7"'}),
        ({"parent_id": OTHER_ID}, False, {"parentId": OTHER_ID}),
        ({"eta": "2026-02-27T10:00:00"}, False, {"eta": "2026-02-27T10:00:00.000000Z"}),
        ({"expires": "2026-02-27T10:00:00"}, False, {"expires": "2026-02-27T10:00:00.000000Z"}),
        ({"priority": 0}, False, {"priority": 0}),
        ({"queue": "a", "name": ""}, True, {"redelivered": True}),
        ({"attempt": 2, "publication": "@1"}, False, {}),
        ({"received": None}, False, {}),
    ],
)
def test_a_plain_task_has_the_bytes_of_any_other(
    message: dict[str, Any], redelivered: bool, extensions: dict[str, Any], created: float | None
) -> None:
    """Its agent reports the same event: with other bytes under one id, which of them a user sees would be chance."""
    recording = Recording()
    version = message_version(0, 1)
    task = Task(**{"external_id": RANDOM_ID, "name": "app.add", "received": version, "created": created, **message})
    run = task.add_run(PROCESS, redelivered=redelivered)
    recording.recorder.record(task, run, transitions.STARTED, START)
    facts = JobFacts(
        task.external_id,
        task.name,
        task.attempt,
        task.queue,
        PROCESS.hostname,
        created_at=timestamp(created) if created else None,
        run_name=run.name + task.publication,
        extensions=cast("JobExtensions", {"rootId": job_id(task.root_id or task.external_id), **extensions}),
        is_attempt_known=task.received is not None,
    )
    when = timestamp(run.reported_at)
    assert recording.lines == [JobEvents(CONNECTION, facts).event(transitions.STARTED, when, started=when)]


def test_a_run_is_under_way_until_it_ends() -> None:
    """A run that stays listed would be reported as lost with its worker, after it has completed."""
    recording = Recording()
    recording.record(transitions.STARTED)
    assert recording.worker.running == {"job-1": recording.run}
    recording.record(transitions.SUCCEEDED)
    assert recording.worker.running == {}


def test_a_lost_run_is_reported_once_and_its_end_after_all() -> None:
    """A worker that is only cut off from the broker goes on, and its jobs end after they seemed lost."""
    recording = Recording()
    recording.record(transitions.STARTED)
    for _ in range(2):
        recording.recorder.record_lost(recording.task, recording.run, START + 1, "its worker is lost")
    recording.record(transitions.SUCCEEDED)
    assert len(recording.lines) == 3
    assert recording.run.state is COMPLETED


def test_an_agent_reports_its_own_jobs_but_not_its_own_loss() -> None:
    """The events of the agent would be doubled, and a job that is lost with its agent would run for ever."""
    recording = Recording()
    recording.worker.emit = None
    recording.record(transitions.STARTED)
    assert recording.lines == []
    recording.recorder.record_lost(recording.task, recording.run, START + 1, "its worker is lost")
    assert len(recording.lines) == 1


def writers_of(attribute: str) -> list[str]:
    """Return the names of the tracker's files that assign an attribute of this name, or change its items."""
    return sorted(path.name for path in TRACKER.glob("*.py") if attribute in written_by(path))


def written_by(path: Path) -> set[str]:
    """Return the names of the attributes that the code of a file assigns, or whose items it changes."""
    written = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        target: ast.AST | None = None
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            target = node.value if isinstance(node, ast.Subscript) else node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            target = node.func.value
        if isinstance(target, ast.Attribute):
            written.add(target.attr)
    return written


def test_nothing_else_writes_the_state_of_a_run() -> None:
    """With two writers, an end could be reported twice, or a job seem to run that has ended."""
    assert writers_of("state") == ["recorder.py"]
    assert "state" in Run.__slots__


def test_only_the_record_of_a_worker_changes_its_runs() -> None:
    """A run that one file adds and another forgets to remove would be lost with its worker, days after its end."""
    assert writers_of("running") == ["worker_store.py"]
    assert "running" in TrackedWorker.__slots__
