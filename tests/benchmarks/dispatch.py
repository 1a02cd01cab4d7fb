"""Publishes the events of N tasks as a prefork worker does, with Celery's own dispatcher, as fast as it can.

`python -m tests.benchmarks.dispatch URL TASKS`: three events a task, in lists of 24. Prints the duration in seconds.
"""

from __future__ import annotations

import sys
import time
from uuid import uuid4

from celery import Celery

EVENTS_A_TASK = 3

_HOSTNAME = "bench@host"


def dispatch(url: str, tasks: int) -> float:
    """Publish `EVENTS_A_TASK` events for each task; return the duration in seconds."""
    app = Celery("bench", broker=url, set_as_current=False)
    with (
        app.connection_for_write() as connection,
        app.events.Dispatcher(connection, hostname=_HOSTNAME, buffer_group={"task"}) as dispatcher,
    ):
        dispatcher.send("worker-online", freq=2.0, sw_ident="py-celery", sw_ver="5.7.0", sw_sys="Linux", active=0)
        started = time.perf_counter()
        for number in range(tasks):
            _publish(dispatcher, str(uuid4()), number)
        dispatcher.flush(groups={"task"})
        return time.perf_counter() - started


def _publish(dispatcher: object, uuid: str, number: int) -> None:
    send = dispatcher.send  # type: ignore[attr-defined]
    send(
        "task-received",
        uuid=uuid,
        name="shop.orders.charge",
        args=f"({number}, 'EUR')",
        kwargs="{'customer': 4711}",
        root_id=uuid,
        parent_id=None,
        retries=0,
        eta=None,
        expires=None,
    )
    send("task-started", uuid=uuid)
    send("task-succeeded", uuid=uuid, result="None", runtime=0.0123)


if __name__ == "__main__":
    print(dispatch(sys.argv[1], int(sys.argv[2])))
