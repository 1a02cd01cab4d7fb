"""What becomes of a job in whose middle its worker ends, as rows: how the worker ends, and what is told of the job."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.outcomes.held import BEGUN, Held, walk_of
from tests.integration.outcomes.rules import FINAL, broken, lacking
from tests.integration.outcomes.table import ALL, EVENTLET, GEVENT, POOLS, PREFORK, SOLO, THREADS, Outcome, Told
from tests.support.waiting import POLL_SECONDS, wait_until
from tests.support.worker import WorkerProcess

ENDED = f"{BEGUN} completed"
AGAIN = f"{BEGUN} queued active completed"
TWICE = f"{BEGUN} active completed"
LOST = f"{BEGUN} unknown"
NOT_BEFORE_5_5: dict[str, str | None] = {f"{pool}<5.5": None for pool in POOLS}
ENDS = (*FINAL, "unknown")

CUT_OFF_SECONDS = 5.0
"""A pool that cuts its jobs off has done so by then; one that waits for them waits until they are released."""


@dataclass(frozen=True, slots=True)
class Ending(Told):
    """One way in which a worker ends in the middle of a job, and what is told of the job by then.

    `drive` gets the worker and the job, which is active. `walks` and `watched` are as those of an `Outcome`.
    """

    name: str
    what: str
    drive: Callable[[WorkerProcess, Held], None]
    walks: Mapping[str, str | None]
    task: str = "hold"
    conf: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the extensions of a job's last event of a state hold: of an end, and of a state that it is in once more."""
    note: str = ""
    watched: Mapping[str, str | None] = field(default_factory=dict)


def warm(worker: WorkerProcess, job: Held) -> None:
    """A shutdown that waits for the job."""
    worker.kill(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.logs(), 10, "no warm shutdown", worker.tail)
    job.release()
    worker.process.wait(30)


def soft(worker: WorkerProcess, job: Held) -> None:
    """A shutdown that waits for the job for a while, in which the job ends."""
    _kill_while_it_waits(worker, job, signal.SIGQUIT)
    wait_until(lambda: "Initiating Soft Shutdown" in worker.logs(), 10, "no soft shutdown", worker.tail)
    job.release()
    _wait_for_the_end(worker)


def cold(worker: WorkerProcess, job: Held) -> None:
    """A shutdown that does not wait for the job; a pool that does so none the less is not kept waiting for ever."""
    _kill_while_it_waits(worker, job, signal.SIGQUIT)
    _wait_for_the_end(worker)
    job.release()
    _wait_for_the_end(worker)


def cold_and_again(worker: WorkerProcess, job: Held) -> None:
    """A cold shutdown, and the same worker once more."""
    cold(worker, job)
    _start_again(worker, job)


def killed_and_again(worker: WorkerProcess, job: Held) -> None:
    """SIGKILL to the worker's main process, and the same worker once more."""
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
        note="New in Celery 5.5. In a solo worker Celery's own signal handler raises NotImplementedError in the job, "
        "which ends the worker before it sends an event of that.",
        watched={SOLO: LOST},
    ),
    Ending(
        "soft shutdown, too long a job",
        "SIGQUIT with `worker_soft_shutdown_timeout`, which the job exceeds",
        cold,
        {**NOT_BEFORE_5_5, PREFORK: f"{BEGUN} cancelled", SOLO: f"{BEGUN} failed", ALL: ENDED},
        conf={"worker_soft_shutdown_timeout": 1},
        extensions={"cancelled": {"celeryState": "RETRY", "reason": ...}, "unknown": {"reason": ...}},
        note="Threads, gevent and eventlet wait for the job all the same.",
        watched={SOLO: LOST},
    ),
    Ending(
        "cold shutdown",
        "SIGQUIT",
        cold,
        {"solo<5.5": ENDED, SOLO: f"{BEGUN} failed", THREADS: ENDED, ALL: f"{BEGUN} cancelled"},
        extensions={"cancelled": {"reason": ...}, "unknown": {"reason": ...}},
        note="Threads wait for the job. From 5.5 on Celery's own signal handler raises in the job of a solo worker, "
        "and in a greenlet that runs just then: such a job has failed.",
        watched={"solo<5.5": ENDED, SOLO: LOST},
    ),
    Ending(
        "cold shutdown, acks_late",
        "SIGQUIT; the worker is started again",
        cold_and_again,
        {
            PREFORK: AGAIN,
            "gevent<5.5": AGAIN,
            GEVENT: f"{BEGUN} cancelled",
            "eventlet<5.5": AGAIN,
            EVENTLET: f"{BEGUN} cancelled",
            "solo<5.5": ENDED,
            SOLO: f"{BEGUN} failed",
            "threads<5.5": f"{ENDED} active completed",
            THREADS: ENDED,
        },
        task="hold_late",
        extensions={"queued": {"requeued": True}, "active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="Celery acknowledges a greenlet that it has killed. Before 5.5 threads end too late to be acknowledged.",
        watched={"solo<5.5": ENDED, SOLO: LOST},
    ),
    Ending(
        "killed worker",
        "SIGKILL to its main process; it is started again",
        killed_and_again,
        {"solo@rabbitmq": TWICE, ALL: BEGUN},
        extensions={"active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="Nobody runs it again, and nobody knows what became of it. A solo worker sends nothing before the job has "
        "ended: no event of it, and no acknowledgement, so that RabbitMQ hands it out again.",
        watched={"solo@rabbitmq": ENDED, SOLO: "queued", ALL: LOST},
    ),
    Ending(
        "killed worker, acks_late",
        "SIGKILL to its main process; it is started again",
        killed_and_again,
        {"@redis": BEGUN, "@filesystem": BEGUN, ALL: TWICE},
        task="hold_late",
        extensions={"active": {"redelivered": True}, "unknown": {"reason": ...}},
        note="Redis hands it out again after its visibility timeout; a filesystem never.",
        watched={"solo@redis": "queued", SOLO: ENDED, "@redis": LOST, ALL: f"{LOST} active completed"},
    ),
)


def faults(row: Ending, events: list[dict[str, Any]], worker: WorkerProcess, *, agents: bool = True) -> list[str]:
    """What in `events`, all that was told of the job, breaks a rule or is not as `row` has it; in sentences.

    Without agents a worker's word may come before its producer's, which knows when and where the job was published.
    """
    outcome = Outcome(row.name, row.what, str, {}, dated=agents, queue="" if agents else None)
    found = broken(outcome, events, worker.broker.queue)
    for state, extensions in row.extensions.items():
        of_state = [event for event in events if event["job"]["state"] == state]
        if of_state and (state in ENDS or len(of_state) > 1):
            found += lacking(of_state[-1], extensions, worker.broker.name)
    return found


def _kill_while_it_waits(worker: WorkerProcess, job: Held, signum: int) -> None:
    """Once the job is told to be active. In a greenlet that still ran, Celery's own handler would raise."""
    wait_until(lambda: job.walk() == job.begun, 20, "not active", worker.tail)
    worker.kill(signum)


def _wait_for_the_end(worker: WorkerProcess) -> None:
    """Until the worker has ended, or time is up: a solo worker may go on, and a pool may wait for its job."""
    deadline = time.monotonic() + CUT_OFF_SECONDS
    while worker.running and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _start_again(worker: WorkerProcess, job: Held) -> None:
    """Start the worker again, and see that what it is sent is told: what was on its way is told by then as well."""
    worker.start_again()
    later = job.sender.send("add", 1, 2)
    wait_until(lambda: walk_of(job.endpoint, later) == ENDED, 30, "the second worker is silent", worker.tail)
