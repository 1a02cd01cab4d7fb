"""The check that no event is lost uncounted: the agent's own figures against the capture log of its processes.

Used by every test in which events may be lost.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner

from sluice_agent.cli import main
from sluice_agent.model import JobState
from tests.support import capture_log
from tests.support.endpoint import Endpoint, event_id_of

Report = dict[str, Any]


def status_of(env: Mapping[str, str]) -> Report:
    """Return the report of `sluice-agent status --json` with the environment `env`.

    The command runs in this process: a new one takes half a second, and hundreds of tests look at the figures.
    """
    result = CliRunner().invoke(main, ["status", "--json"], env={**dict.fromkeys(os.environ), **env})
    assert result.stdout, result.stderr
    report: Report = json.loads(result.stdout)
    return report


def assert_balanced(env: Mapping[str, str], endpoint: Endpoint | None = None, *, killed: int = 0) -> Report:
    """Assert that the figures of the journal that `env` names add up, and return its report.

    With an `endpoint`, also compare them with the events that arrived there and with the capture log: each captured
    event is at the endpoint exactly once, or counted. `killed` processes may each have written one event to the
    journal and died before they logged it. The last event of each may also be reported twice under one id: Celery finds
    the success stored that a lost process has reported.
    """
    report = status_of(env)
    dropped = sum(report["dropped"].values())
    assert report["captured"] == report["delivered"] + report["rejected"] + dropped + report["pending"], report
    if endpoint is None:
        return report
    with_ids = [event for event in list(endpoint.events) if event_id_of(event)]
    repeated = [transition for transition, times in Counter(map(_transition, with_ids)).items() if times > 1]
    assert repeated == [], "one transition was reported under two ids"
    captured = capture_log.captured_ids(env)
    if captured is None:
        return report
    repeated_ids = [event_id for event_id, times in Counter(captured).items() if times > 1]
    successes = [event_id for event_id in repeated_ids if event_id.endswith(f".{JobState.COMPLETED.value}")]
    assert repeated_ids == successes[:killed], f"one id for two events: {repeated_ids[:5]}"
    received = {str(event_id_of(event)) for event in with_ids}
    missing, surplus = set(captured) - received, received - set(captured)
    counted = report["rejected"] + dropped + report["pending"]
    assert len(missing) <= counted, (
        f"{len(missing)} are missing, {counted} are counted: {sorted(missing)[:5]}; {report}"
    )
    assert len(surplus) <= killed, f"at the endpoint, and never captured: {sorted(surplus)[:5]}"
    assert len(captured) <= report["captured"] <= len(captured) + killed, f"{len(captured)} were captured: {report}"
    return report


def _transition(event: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key of a transition: a job's state in one attempt and run, or a worker's state at one time."""
    if "job" in event:
        job = event["job"]
        return job["externalId"], job["state"], job.get("attempt"), job.get("progress"), job.get("startedAt")
    worker = event.get("worker", {})
    return worker.get("externalId"), worker.get("pid"), worker.get("state"), event["timestamp"]
