"""A user's file, with each public name as its types promise: `make check` runs mypy --strict on it."""

from __future__ import annotations

from typing import Any

import sluice_agent
from sluice_agent import (
    ConfigError,
    Event,
    EventType,
    Framework,
    Job,
    JobState,
    JournalUnavailableError,
    Queue,
    Settings,
    SluiceError,
    Stats,
    Worker,
    WorkerState,
    flush,
    install,
    progress,
    shutdown,
    stats,
)
from sluice_agent.testing import captured_events


def before_send(event: Event) -> Event | None:
    """Use each part of an event."""
    job: Job | None = event.job
    worker: Worker | None = event.worker
    queue: Queue | None = event.queue
    if job is not None and job.state is JobState.FAILED and job.name.startswith("internal."):
        return None
    if worker is not None and worker.state is WorkerState.HEARTBEAT:
        return event.model_copy(update={"framework": Framework.CELERY})
    kind: EventType = event.type
    depth: int = queue.depth if queue is not None else 0
    return event if kind is EventType.QUEUE_SNAPSHOT and depth else event.model_copy()


def redact(name: str, value: Any) -> Any:
    """Send results only."""
    return value if name == "result" else None


def use() -> Stats:
    """Call each public function."""
    version: str = sluice_agent.__version__
    try:
        install(Settings(batch_size=100), before_send=before_send, redact=redact)
    except (ConfigError, JournalUnavailableError) as error:
        failure: SluiceError = error
        raise failure from None
    progress(0.5)
    is_settled: bool = flush(1.0)
    shutdown(timeout=1.0)
    with captured_events() as events:
        captured: list[Event] = list(events)
    counts = stats()
    total: int = counts["captured"] + sum(counts["dropped"].values())
    print(version, is_settled, total, captured)
    return counts
