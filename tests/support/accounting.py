"""The one check that nothing is lost quietly: by the agent's own accounts, and by what its processes say beside them.

Used by every test that may lose something.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.support import capture_log
from tests.support.endpoint import Endpoint, event_id_of
from tests.support.process import ROOT

Report = dict[str, Any]


def status_of(env: Mapping[str, str]) -> Report:
    """What `sluice-agent status --json` says."""
    command = [sys.executable, "-m", "sluice_agent", "status", "--json"]
    found = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True, check=False)
    assert found.stdout, found.stderr
    report: Report = json.loads(found.stdout)
    return report


def assert_balanced(env: Mapping[str, str], endpoint: Endpoint | None = None, *, killed: int = 0) -> Report:
    """The accounts of the journal that `env` names add up; its report.

    With an `endpoint` they are held against what is there, and against what the witnesses of the processes that
    captured have noted: each event is at the endpoint exactly once, or counted. `killed` processes may each have
    written one event that they did not live to note.
    """
    report = status_of(env)
    dropped = sum(report["dropped"].values())
    assert report["captured"] == report["delivered"] + report["rejected"] + dropped + report["pending"], report
    if endpoint is None:
        return report
    with_ids = [event for event in list(endpoint.events) if event_id_of(event)]
    twice = [told for told, times in Counter(map(_transition, with_ids)).items() if times > 1]
    assert twice == [], "told twice under two ids"
    noted = capture_log.captured_ids(env)
    if noted is None:
        return report
    noted_twice = [one for one, times in Counter(noted).items() if times > 1]
    assert noted_twice == [], "one id for two events"
    there = {str(event_id_of(event)) for event in with_ids}
    missing, surplus = set(noted) - there, there - set(noted)
    counted = report["rejected"] + dropped + report["pending"]
    assert len(missing) <= counted, (
        f"{len(missing)} are missing, {counted} are counted: {sorted(missing)[:5]}; {report}"
    )
    assert len(surplus) <= killed, f"at the endpoint, and never captured: {sorted(surplus)[:5]}"
    assert len(noted) <= report["captured"] <= len(noted) + killed, f"{len(noted)} were captured: {report}"
    return report


def _transition(event: dict[str, Any]) -> tuple[Any, ...]:
    """What may be told once: a job's state in one attempt and run, a worker's at one moment."""
    if "job" in event:
        job = event["job"]
        return job["externalId"], job["state"], job.get("attempt"), job.get("progress"), job.get("startedAt")
    worker = event.get("worker", {})
    return worker.get("externalId"), worker.get("pid"), worker.get("state"), event["timestamp"]
