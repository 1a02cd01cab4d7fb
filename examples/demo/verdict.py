"""Check that every captured event has arrived, by three independent sources: the process that published, the worker's
log, and the agent's counters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.demo.server_data import Counters, Job

RECEIVED = re.compile(r"Task (\S+)\[([0-9a-f-]{36})\] received")


@dataclass(frozen=True)
class Publication:
    """A job that the storefront has published."""

    id: str
    task: str
    end: str


def publications(output: Path) -> list[Publication]:
    """Return the jobs that the storefront has published so far, from its output."""
    lines = output.read_text().splitlines(keepends=True)
    return [Publication(**json.loads(line)) for line in lines if line.endswith("\n")]


def missing(published: list[Publication], worker_log: Path, known: Mapping[str, Job]) -> list[str]:
    """Return a sentence for every job in the storefront's output or the worker's log that the server lacks."""
    names = {publication.id: publication.task for publication in published}
    names.update((match[2], match[1]) for match in RECEIVED.finditer(worker_log.read_text(errors="replace")))
    return [f"the server does not know {task} {id_}" for id_, task in names.items() if id_ not in known]


def unfinished(known: Mapping[str, Job]) -> list[str]:
    """Return a sentence for every job whose end the server does not know."""
    return [f"{job.name} {job.external_id} is still {job.state}" for job in known.values() if not job.is_final]


def differences(
    published: list[Publication], worker_log: Path, known: Mapping[str, Job], counters: Counters
) -> list[str]:
    """Return all problems, a sentence per problem."""
    problems = missing(published, worker_log, known) + unfinished(known)
    for publication in published:
        job = known.get(publication.id)
        if job is not None and job.is_final and job.state != publication.end:
            problems.append(f"{job.name} {publication.id} should have {publication.end}, but is {job.state}")
    if not counters.add_up:
        problems.append("the agent's counters do not add up")
    figures = {"pending": counters.pending, "rejected": counters.rejected, **counters.dropped}
    problems += [f"{count:,} events are not delivered: {reason}" for reason, count in figures.items() if count]
    return problems
