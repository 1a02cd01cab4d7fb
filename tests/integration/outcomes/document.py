"""docs/outcomes.md, from the rows that the tests run: `python -m tests.integration.outcomes.document` writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.integration.outcomes.rows import ROWS
from tests.integration.outcomes.table import ALL, POOLS, Outcome
from tests.integration.outcomes.workers import ENDINGS_OF_WORKERS, Ending

PAGE = Path(__file__).resolve().parents[3] / "docs" / "outcomes.md"

HEAD = """\
# What is told of a job, whatever becomes of it

Made by `make outcomes` from the rows that the tests run, each on real workers: prefork, threads, gevent, eventlet and
solo pools; Redis, RabbitMQ (classic and quorum queues) and the filesystem; Celery 5.4, 5.5, 5.6 and 5.7. A walk holds
where it stands, for all that no more specific walk names. `active/2` is the second attempt. "—": can't happen there, or
would end the worker.

The monitor's column is what the broker's events tell, where no worker has the agent (workers with `-E`, producers with
`task_send_sent_event`; without the latter nobody tells of a job that no worker has received).

| outcome | what happens | what is told | by a monitor alone | note |
|---|---|---|---|---|
"""

MIDDLE = """
## What holds of every event

Name and queue, where the message has them; `createdAt`, where the producer has the agent; `workerId`, `attempt` and
`startedAt` from `active` on; `completedAt` at the end; `error` as `Type: message`, and the traceback as Python prints
it, causes included. `extensions` has `celeryState`, `rootId` and `eventId` always.

## When Celery says nothing

A run that ends by something that is no `Exception` (`sys.exit()`, a greenlet that is killed, gevent's hard limit before
Celery 5.7) ends without a state, and in these cases no verdict follows:

- threads, gevent, eventlet, solo: the worker's process has run the job itself and hears every verdict. If none comes
  within 3 s, or before the worker ends, the job is told as `failed` with what ended it, and with `extensions.reason`.
- prefork, `sys.exit()` before Celery 5.7 with billiard 4.3 or newer: Celery drops what the pool process reports. The
  process itself tells `failed`, with `extensions.reason`. On other versions the main process tells Celery's own
  verdict, `WorkerLostError`.
- a task that is called eagerly: it is told at once.

## A worker that ends

It is in the middle of a job when it does. Each end is played on every pool with Redis, with prefork on every broker,
and with solo on RabbitMQ; the monitor's column on these pools with Redis and RabbitMQ, with Celery 5.7.

| end | what happens | what is told of the job | by a monitor alone | note |
|---|---|---|---|---|
"""

TAIL = """
`cancelled` has `extensions.reason` here, and `celeryState` is Celery's own word for it: RETRY, or STARTED where it says
nothing. A job that went back to its queue is `queued` again with `extensions.requeued`.

A worker that loses its broker goes on, and what its jobs come to is told. With
`worker_cancel_long_running_tasks_on_connection_loss`, what is cancelled is `queued` again. Where the result backend is
away as well, Celery from 5.6 on takes the loss of a result for a failure: `completed`, then `failed`.

## What can't be told

- A worker whose main process is killed says nothing of the jobs that it ran: they stay `active` until the broker hands
  them out again (`acks_late`), or until a monitor tells `unknown`.
- That a job runs twice as two prefork processes die at the same moment, by a monitor alone: the pool gives the job of
  one to a third without a second receipt, and no event names a pool's process. The agent reports both runs.
- A message that Celery turns away as no task (`task_rejected`) is `failed` where it has any id; without one it is
  counted as dropped, reason `malformed_message`. One whose body can't be decoded leaves no trace in any signal.
- What the broker throws away: a queue that is purged or deleted, the oldest messages of one with `x-max-length`, those
  whose `expires` or `x-message-ttl` passes while RabbitMQ has them, what no binding leads to any queue (unroutable). No
  signal and no event says so: the job stays `queued`. A monitor that hears of publications reports `unknown`, as below.
- A job that is taken by a worker without the agent that sends no events (without `-E`, in the first second of its
  life, before a monitor has told it to): nobody says what becomes of it. A monitor reports `unknown`, and why, once
  the job has waited for 30 s, its queue was seen empty, and no worker that answers has it. It does not where it is
  not certain which queue the job went to, where an agent's worker takes from that queue, where a worker that has
  answered before is too busy to, or with `SLUICE_QUEUE_INTERVAL=0`. With Redis this includes jobs that a worker had
  reserved as it died: Redis hands them out again after the visibility timeout, and they are reported from then on.
  On RabbitMQ it includes jobs that a solo worker without heartbeats has reserved while it is too busy to answer.
- What a monitor had reported before it was stopped or killed is not known to the next one: where no further event comes
  of such a job (`Ignore`, an expiry on RabbitMQ), it stays as it was.
- Which attempt it is, by a monitor that was started, or took over, after the attempt was received: no event names it
  after that, and no worker does when it is asked. What is reported of it has no `attempt` then; a server takes it for
  the last one that it knows of.
- A publication that fails or is interrupted where the producer does not have the agent: no event says so. With the
  agent it is `unknown`, with `extensions.reason`; where the broker has the message, what its worker reports follows.
- That an attempt has published the next one and raised no `Retry`, by a monitor alone, where the workers run without
  `task_send_sent_event` and the next attempt is received after this one has ended: then it reports the end that Celery
  does. Nor does a monitor report that a job waits which another task publishes with `retries`, or a client of task
  protocol 1: events do not distinguish that from a retry.
- The later members of a chain whose first fails: Celery stores FAILURE for each, and publishes none, so nothing is
  told of them.
- A chord whose header fails: the body is never sent, so nothing is told of it.
- An ETA that is further away than the visibility timeout of Redis: Celery runs the job as often as Redis hands it out,
  and each run is told.
"""


def page() -> str:
    """The whole page."""
    jobs = "".join(f"{_line(row)}\n" for row in ROWS)
    workers = "".join(
        f"{_line(row, about='; the job has `acks_late`' if row.task == 'hold_late' else '')}\n"
        for row in ENDINGS_OF_WORKERS
    )
    return HEAD + jobs + MIDDLE + workers + TAIL


def _line(row: Outcome | Ending, about: str = "") -> str:
    watched = _walks(row.watched)
    if watched and ALL not in row.watched:
        watched += "<br>others: the same"
    return f"| {row.name} | {row.what}{about} | {_walks(row.walks)} | {watched or 'the same'} | {row.note} |"


def _walks(walks: Mapping[str, str | None]) -> str:
    """One walk for all, or each with those that it is for."""
    places: dict[str | None, list[str]] = {}
    for place, walk in walks.items():
        places.setdefault(walk, []).append(place)
    told = [(_named(found, len(walks)), walk) for walk, found in places.items() if walk is not None]
    lines = [f"{walk or 'nothing'}" if not name else f"{name}: {walk or 'nothing'}" for name, walk in told]
    if None in places:
        lines.append(f"{_named(places[None], len(walks))}: —")
    return "<br>".join(lines)


def _named(places: list[str], of: int) -> str:
    if places == [ALL]:
        return "" if of == 1 else "others"
    for mark in {place.partition("<")[2] for place in places if "<" in place}:
        if set(of_every_pool := [f"{pool}<{mark}" for pool in POOLS]) <= set(places):
            places = [*(place for place in places if place not in of_every_pool), f"<{mark}"]
    names = [
        re.sub(r"<([\d.]+)$", r" before \1", place.replace("@", " on ")).strip() for place in places if place != ALL
    ]
    if ALL in places:
        names.append("others")
    return ", ".join(sorted(names, key=lambda name: (name == "others", _rank(name))))


def _rank(name: str) -> int:
    return next((rank for rank, pool in enumerate(POOLS) if name.startswith(pool)), len(POOLS))


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
