"""Rows for a worker that ends in the middle of a job: the worker's end, and the job's walk."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.outcomes.rules import FINAL, missing_extensions, violations
from tests.integration.outcomes.running_job import BEGUN, RunningJob, walk_of
from tests.integration.outcomes.table import (
    ALL,
    EVENTLET,
    GEVENT,
    POOLS,
    PREFORK,
    SOLO,
    THREADS,
    ExpectedWalks,
    Outcome,
)
from tests.support.waiting import POLL_SECONDS, wait_until
from tests.support.worker import WorkerProcess

ENDED = f"{BEGUN} completed"
REQUEUED = f"{BEGUN} queued active completed"
TWICE = f"{BEGUN} active completed"
UNKNOWN_END = f"{BEGUN} unknown"
NOT_BEFORE_5_5: dict[str, str | None] = {f"{pool}<5.5": None for pool in POOLS}
ENDS = (*FINAL, "unknown")

CUT_OFF_SECONDS = 5.0
"""A pool that kills its jobs has done so by then; one that waits for them waits until they are released."""


@dataclass(frozen=True, slots=True)
class Ending(ExpectedWalks):
    """One way in which a worker ends in the middle of a job, and the job's walk.

    `drive` gets the worker and the job, which is active. `walks` and `monitor_walks` are as those of an `Outcome`.
    """

    name: str
    description: str
    drive: Callable[[WorkerProcess, RunningJob], None]
    walks: Mapping[str, str | None]
    task: str = "hold"
    conf: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Expected extensions of a job's last event by state, for an end, and for a state that the job is in again."""
    note: str = ""
    monitor_walks: Mapping[str, str | None] = field(default_factory=dict)


def warm(worker: WorkerProcess, job: RunningJob) -> None:
    """Shut down; the worker waits for the job."""
    worker.kill(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.logs(), 10, "no warm shutdown", worker.tail)
    job.release()
    worker.process.wait(30)


def soft(worker: WorkerProcess, job: RunningJob) -> None:
    """Shut down; the worker waits for the job for a while, in which the job ends."""
    _kill_while_it_waits(worker, job, signal.SIGQUIT)
    wait_until(lambda: "Initiating Soft Shutdown" in worker.logs(), 10, "no soft shutdown", worker.tail)
    job.release()
    _wait_for_the_end(worker)


def cold(worker: WorkerProcess, job: RunningJob) -> None:
    """Shut down without waiting for the job; release it in the end, since some pools wait all the same."""
    _kill_while_it_waits(worker, job, signal.SIGQUIT)
    _wait_for_the_end(worker)
    job.release()
    _wait_for_the_end(worker)


def cold_and_again(worker: WorkerProcess, job: RunningJob) -> None:
    """Shut down without waiting for the job, and start the same worker again."""
    cold(worker, job)
    _start_again(worker, job)


def killed_and_again(worker: WorkerProcess, job: RunningJob) -> None:
    """Kill the worker's main process by SIGKILL, and start the same worker again."""
    _kill_while_it_waits(worker, job, signal.SIGKILL)
    job.release()
    _start_again(worker, job)


ENDINGS_OF_WORKERS = (
    Ending("warm shutdown", "SIGTERM; the job ends before the worker does", warm, {ALL: ENDED}),
    Ending(
        "soft shutdown",
        "SIGQUIT with `worker_soft_shutdown_timeout`, in which the job ends",
        soft,
        {**NOT_BEFORE_5_5, SOLO: f"{BEGUN} failed", ALL: ENDED},
        conf={"worker_soft_shutdown_timeout": 3},
        note="New in Celery 5.5. In a solo worker Celery's signal handler raises NotImplementedError in the job, "
        "which ends the worker before it sends an event for it.",
        monitor_walks={SOLO: UNKNOWN_END},
    ),
    Ending(
        "soft shutdown, too long a job",
        "SIGQUIT with `worker_soft_shutdown_timeout`, which the job exceeds",
        cold,
        {**NOT_BEFORE_5_5, PREFORK: f"{BEGUN} cancelled", SOLO: f"{BEGUN} failed", ALL: ENDED},
        conf={"worker_soft_shutdown_timeout": 1},
        extensions={"cancelled": {"celeryState": "RETRY", "reason": ...}, "unknown": {"reason": ...}},
        note="Threads, gevent and eventlet wait for the job all the same.",
        monitor_walks={SOLO: UNKNOWN_END},
    ),
    Ending(
        "cold shutdown",
        "SIGQUIT",
        cold,
        {"solo<5.5": ENDED, SOLO: f"{BEGUN} failed", THREADS: ENDED, ALL: f"{BEGUN} cancelled"},
        extensions={"cancelled": {"reason": ...}, "unknown": {"reason": ...}},
        note="Threads wait for the job. From 5.5 on Celery's signal handler raises in the job of a solo worker, "
        "and in a greenlet that runs just then: such a job has failed.",
        monitor_walks={"solo<5.5": ENDED, SOLO: UNKNOWN_END},
    ),
    Ending(
        "cold shutdown, acks_late",
        "SIGQUIT; the worker is started again",
        cold_and_again,
        {
            PREFORK: REQUEUED,
            "gevent<5.5": REQUEUED,
            GEVENT: f"{BEGUN} cancelled",
            "eventlet<5.5": REQUEUED,
            EVENTLET: f"{BEGUN} cancelled",
            "solo<5.5": ENDED,
            SOLO: f"{BEGUN} failed",
            "threads<5.5": f"{ENDED} active completed",
            THREADS: ENDED,
        },
        task="hold_late",
        extensions={"queued": {"requeued": True}, "active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="Celery acknowledges a greenlet that it has killed. Before 5.5 threads end too late to be acknowledged.",
        monitor_walks={"solo<5.5": ENDED, SOLO: UNKNOWN_END},
    ),
    Ending(
        "killed worker",
        "SIGKILL to its main process; it is started again",
        killed_and_again,
        {"solo@rabbitmq": TWICE, ALL: BEGUN},
        extensions={"active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="It is not run again, and its end is not known. A solo worker sends nothing before the job has ended: no "
        "event, and no acknowledgement, so that RabbitMQ delivers it again.",
        monitor_walks={"solo@rabbitmq": ENDED, SOLO: "queued", ALL: UNKNOWN_END},
    ),
    Ending(
        "killed worker, acks_late",
        "SIGKILL to its main process; it is started again",
        killed_and_again,
        {"@redis": BEGUN, "@filesystem": BEGUN, ALL: TWICE},
        task="hold_late",
        extensions={"active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="Redis delivers it again after its visibility timeout; a filesystem never.",
        monitor_walks={
            "solo@redis": "queued",
            SOLO: ENDED,
            "@redis": UNKNOWN_END,
            ALL: f"{UNKNOWN_END} active completed",
        },
    ),
)


def faults(row: Ending, events: list[dict[str, Any]], worker: WorkerProcess, *, agents: bool = True) -> list[str]:
    """Return a sentence for each rule that `events`, all events of the job, break, and for each difference from `row`.

    Without agents a worker's event may precede its producer's, which has the time and queue of the publication.
    """
    outcome = Outcome(row.name, row.description, str, {}, dated=agents, queue="" if agents else None)
    differences = violations(outcome, events, worker.broker.queue)
    for state, extensions in row.extensions.items():
        of_state = [event for event in events if event["job"]["state"] == state]
        if of_state and (state in ENDS or len(of_state) > 1):
            differences += missing_extensions(of_state[-1], extensions, worker.broker.name)
    return differences


def _kill_while_it_waits(worker: WorkerProcess, job: RunningJob, signum: int) -> None:
    """Send the signal once the job is reported active, and waits: Celery's handler raises in the greenlet that runs."""
    wait_until(lambda: job.walk() == job.begun, 20, "not active", worker.tail)
    worker.kill(signum)


def _wait_for_the_end(worker: WorkerProcess) -> None:
    """Wait for the worker's end, at most `CUT_OFF_SECONDS`: a solo worker may continue, a pool may wait for its job."""
    deadline = time.monotonic() + CUT_OFF_SECONDS
    while worker.running and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _start_again(worker: WorkerProcess, job: RunningJob) -> None:
    """Start the worker again, and wait until a later job is reported: earlier events have arrived by then as well."""
    worker.start_again()
    later = job.sender.send("add", 1, 2)
    wait_until(lambda: walk_of(job.endpoint, later) == ENDED, 30, "the second worker reports nothing", worker.tail)
