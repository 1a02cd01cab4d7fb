"""Compares a test's outcome with the agent and without it, and a job's reported state with its stored result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis

from tests.support.endpoint import Endpoint
from tests.support.records import record_of_events

_META = "celery-task-meta-"
_REPORTED = {
    "SUCCESS": "completed",
    "FAILURE": "failed",
    "REVOKED": "cancelled",
    "RETRY": "retrying",
    "STARTED": "active",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A test, by its node id, or a job, by its task and id, and its outcomes on both sides."""

    subject: str
    without: str
    within: str


def differing_tests(without: Mapping[str, str], within: Mapping[str, str]) -> list[Difference]:
    """Return the tests whose outcomes differ; a test that did not run on one side is absent there."""
    return [
        Difference(test, without.get(test, "absent"), within.get(test, "absent"))
        for test in sorted({*without, *within})
        if without.get(test) != within.get(test)
    ]


def stored_states(client: redis.Redis) -> dict[str, str]:
    """Return Celery's state of each job whose result is in Redis, by the job's id."""
    return dict(_stored(client))


def differing_jobs(endpoint: Endpoint, stored: Mapping[str, str]) -> tuple[Counter[tuple[str, str]], list[Difference]]:
    """Count the jobs that have both by stored and reported state; return also the jobs whose states differ."""
    pairs: Counter[tuple[str, str]] = Counter()
    differences = []
    for external_id, events in endpoint.jobs().items():
        state = stored.get(external_id)
        if state not in _REPORTED:
            continue
        record = record_of_events(events)
        pairs[state, record["state"]] += 1
        if record["state"] != _REPORTED[state]:
            walk = " ".join(str(entry["state"]) for entry in record["stateHistory"])
            differences.append(Difference(f"{record['name']} {external_id}", state, walk))
    return pairs, differences


def _stored(client: redis.Redis) -> Iterator[tuple[str, str]]:
    for key in client.scan_iter(f"{_META}*"):
        meta = client.get(key)
        if meta is not None:
            result = json.loads(meta)
            yield str(result["task_id"]), str(result["status"])
