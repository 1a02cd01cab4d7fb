"""What differs: a test's outcome with the agent and without it; a job's reported state and its stored result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis

from sluice_agent.server.record import record_of
from tests.support.endpoint import Endpoint

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
    """A test by its node id, or a job by its task and id, and what was seen of it on either side."""

    subject: str
    without: str
    within: str


def differing_tests(without: Mapping[str, str], within: Mapping[str, str]) -> list[Difference]:
    """The tests that did not end alike; one that was not run at all is absent on that side."""
    return [
        Difference(test, without.get(test, "absent"), within.get(test, "absent"))
        for test in sorted({*without, *within})
        if without.get(test) != within.get(test)
    ]


def stored_states(client: redis.Redis) -> dict[str, str]:
    """Celery's state of each job whose result is in Redis, by the job's id."""
    return dict(_stored(client))


def differing_jobs(endpoint: Endpoint, stored: Mapping[str, str]) -> tuple[Counter[tuple[str, str]], list[Difference]]:
    """How many jobs have which stored and reported state, of those that have both; and those where the two differ."""
    pairs: Counter[tuple[str, str]] = Counter()
    differences = []
    for external_id, events in endpoint.jobs().items():
        state = stored.get(external_id)
        if state not in _REPORTED:
            continue
        record = record_of(json.dumps(event) for event in events)
        pairs[state, record["state"]] += 1
        if record["state"] != _REPORTED[state]:
            walk = " ".join(str(entry["state"]) for entry in record["stateHistory"])
            differences.append(Difference(f"{record['name']} {external_id}", state, walk))
    return pairs, differences


def _stored(client: redis.Redis) -> Iterator[tuple[str, str]]:
    for key in client.scan_iter(f"{_META}*"):
        meta = client.get(key)
        if meta is not None:
            found = json.loads(meta)
            yield str(found["task_id"]), str(found["status"])
