"""Whether everything that was captured has arrived, judged by three witnesses that know nothing of each other: the
process that published, Celery's own log of the worker, and the agent's counters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.celery_app.demo_sluice import Counters, Job

RECEIVED = re.compile(r"Task (\S+)\[([0-9a-f-]{36})\] received")


@dataclass(frozen=True)
class Order:
    """A job that the storefront has published."""

    id: str
    task: str
    end: str


def orders(said: Path) -> list[Order]:
    """What the storefront has published so far."""
    lines = said.read_text().splitlines(keepends=True)
    return [Order(**json.loads(line)) for line in lines if line.endswith("\n")]


def missing(published: list[Order], worker_log: Path, known: Mapping[str, Job]) -> list[str]:
    """Jobs that the storefront or the worker's log names and the server does not know."""
    named = {order.id: order.task for order in published}
    named.update((match[2], match[1]) for match in RECEIVED.finditer(worker_log.read_text(errors="replace")))
    return [f"the server has never heard of {task} {id_}" for id_, task in named.items() if id_ not in known]


def unfinished(known: Mapping[str, Job]) -> list[str]:
    """Jobs of which the server does not know the end."""
    return [f"{job.name} {job.external_id} is still {job.state}" for job in known.values() if not job.is_final]


def differences(published: list[Order], worker_log: Path, known: Mapping[str, Job], counters: Counters) -> list[str]:
    """Everything that is not as it should be, one sentence each."""
    found = missing(published, worker_log, known) + unfinished(known)
    for order in published:
        job = known.get(order.id)
        if job is not None and job.is_final and job.state != order.end:
            found.append(f"{job.name} {order.id} should have {order.end}, but is {job.state}")
    if not counters.add_up:
        found.append("the agent's counters do not add up")
    figures = {"pending": counters.pending, "rejected": counters.rejected, **counters.dropped}
    found += [f"{count:,} events are not delivered: {reason}" for reason, count in figures.items() if count]
    return found
