"""Publishes no-op tasks and runs them in this process, always in the same way: what cachegrind counts.

`python -m tests.benchmarks.fixed_script TASKS`, with Celery's broker in memory and its solo pool. The garbage collector
is off: a collection of everything costs as much as dozens of tasks, and one of two runs would have one more.
"""

from __future__ import annotations

import gc
import logging
import sys

from celery.worker import state

from tests.benchmarks.app import app, noop


@app.task
def stop() -> None:
    """End the worker: it is the last task."""
    state.should_stop = 0


def main(tasks: int) -> None:
    """Publish, then work until the last task."""
    gc.disable()
    for _ in range(tasks):
        noop.delay()
    stop.delay()
    options = {"without_heartbeat": True, "without_gossip": True, "without_mingle": True}
    worker = app.Worker(pool="solo", concurrency=1, loglevel=logging.ERROR, **options)
    worker.start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
