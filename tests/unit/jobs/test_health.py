"""The health of a job, and the attempts behind it."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from sluice_agent.jobs.routes.health import _view
from sluice_agent.jobs.runs.attempts import attempt_view, list_attempts
from sluice_agent.jobs.runs.health import Durations, Health, HealthWindow, health_score, read_health
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.store.schema import run as run_table
from tests.support.job_attempts import FAILURE, SECOND, SUCCESS, Attempts
from tests.unit.jobs.conftest import Project


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    attempts = Attempts(tmp_path_factory.mktemp("jobs") / "sluice.db")
    yield attempts
    attempts.store.close()


def health_of(attempts: Attempts, job_id: str, window: HealthWindow = HealthWindow.WEEK) -> Health:
    with attempts.store.reading() as reader:
        return read_health(reader, job_id, window, attempts.store.moment)


def ended(attempts: Attempts, job_id: str, status: str, seconds: float | None, age: float = 0) -> dict[str, Any]:
    """Return the row of a run that was created `age` seconds ago, and has ended after these seconds."""
    now = attempts.store.moment - round(age * SECOND)
    started_at = None if seconds is None else now
    return {
        "id": attempts.name(), "job_id": job_id, "project_id": "project", "status": status, "attempt": 1, "priority": 0,
        "payload": "{}", "payload_hash": "", "triggered_by": "manual", "created_at": now, "available_at": now,
        "job_version": 1, "job_version_id": "ver_1", "debug_mode": False, "started_at": started_at,
        "finished_at": now + round((seconds or 0) * SECOND),
    }  # fmt: skip


def test_a_job_that_always_fails_is_not_healthy(attempts: Attempts) -> None:
    """The product counted no dead letters: a job that always failed had no runs, and looked like one that never ran."""
    job = attempts.job(max_attempts=1)
    assert (health_of(attempts, job.id).score, health_of(attempts, job.id).total) == (-1, 0)
    for _ in range(3):
        run = attempts.trigger(job)
        execution = attempts.begin(run)
        attempts.pass_(2)
        attempts.finish(run, execution, **FAILURE)
    health = health_of(attempts, job.id)
    view = _view(health)
    assert (view["total_runs"], view["failed_runs"], view["success_rate"]) == (3, 3, 0)
    assert health.durations == Durations(2, 2, 2)
    assert health.score == 30


def test_each_end_is_counted_once(attempts: Attempts) -> None:
    """A kind of failure that is in no number would be found by nobody."""
    job = attempts.job()
    ends = ("completed", "failed", "dead_letter", "timed_out", "crashed", "system_failed", "canceled", "expired")
    rows = [ended(attempts, job.id, status, 1) for status in ends for _ in range(2)]
    rows += [ended(attempts, job.id, status, None) for status in ("queued", "executing", "waiting", "delayed")]
    with attempts.store.writing() as writer:
        writer.execute(insert(run_table), rows)
    view = _view(health_of(attempts, job.id))
    assert {name: count for name, count in view.items() if name.endswith("_runs")} == {
        "total_runs": 16, "completed_runs": 2, "failed_runs": 4, "timed_out_runs": 2, "crashed_runs": 4,
        "canceled_runs": 2, "expired_runs": 2,
    }  # fmt: skip
    assert view["success_rate"] == 12.5


def test_percentiles_are_those_of_another_reckoning(attempts: Attempts) -> None:
    """A slow tail would be hidden, or a job be called slow that is not."""
    job = attempts.job()
    chance = random.Random(7)
    durations = [chance.expovariate(0.2) for _ in range(237)]
    rows = [ended(attempts, job.id, "completed", seconds) for seconds in durations]
    rows.append(ended(attempts, job.id, "expired", None))
    with attempts.store.writing() as writer:
        writer.execute(insert(run_table), rows)
    health = health_of(attempts, job.id)
    cuts = statistics.quantiles(durations, n=100, method="inclusive")
    assert health.durations.mean == pytest.approx(statistics.fmean(durations), abs=1e-6)
    assert health.durations.p95 == pytest.approx(cuts[94], abs=1e-5)
    assert health.durations.p99 == pytest.approx(cuts[98], abs=1e-5)


@pytest.mark.parametrize(
    ("rate", "durations", "score"),
    [
        (100, Durations(10, 20), 100),
        (100, Durations(10, 30), 85),
        (100, Durations(10, 40), 70),
        (100, Durations(10, 900), 70),
        (50, Durations(10, 10), 65),
        (100, Durations(), 70),
    ],
)
def test_the_score(rate: float, durations: Durations, score: float) -> None:
    """A job would be shown healthy whose runs fail, or whose durations are all over the place."""
    assert health_score(rate, durations) == pytest.approx(score)


def test_a_window_ends_now_and_begins_at_creation(attempts: Attempts) -> None:
    """An outage of last week would be shown as one of this hour."""
    job = attempts.job()
    hour, day = 3_600, 86_400
    ages = [hour - 1, hour + 1, day - 1, day + 1, 7 * day - 1, 7 * day + 1, 30 * day - 1, 30 * day + 1]
    with attempts.store.writing() as writer:
        writer.execute(insert(run_table), [ended(attempts, job.id, "completed", 1, age) for age in ages])
    assert [health_of(attempts, job.id, window).total for window in HealthWindow] == [1, 3, 5, 7]


def test_health_over_the_api(project: Project) -> None:
    """A dashboard could not read it, or would take a wrong window for the whole."""
    job = project.create()
    health = project.send("GET", f"/jobs/{job['id']}/health")
    assert (health["window"], health["health_score"], health["total_runs"]) == ("7d", -1, 0)
    assert set(health) == {
        "job_id", "window", "since", "total_runs", "completed_runs", "failed_runs", "timed_out_runs", "crashed_runs",
        "canceled_runs", "expired_runs", "success_rate", "avg_duration_secs", "p95_duration_secs",
        "p99_duration_secs", "health_score",
    }  # fmt: skip
    assert "window" in project.refused("GET", f"/jobs/{job['id']}/health?window=2d")
    assert project.refused("GET", "/jobs/none/health", status=404) == "Job not found."


def test_attempts_are_kept_with_their_traces(attempts: Attempts) -> None:
    """What went wrong before the last attempt would be known to nobody."""
    job = attempts.job()
    run = attempts.trigger(job)
    trace = {"dns_ms": 3, "connect_ms": 2, "tls_ms": 1, "ttfb_ms": 4, "transfer_ms": 5, "dispatch_ms": 11}
    attempts.finish(run, attempts.begin(run), **FAILURE, trace=trace)
    attempts.finish(run, attempts.begin(run, 2), 2, **SUCCESS)
    with attempts.store.reading() as reader:
        views = [attempt_view(row) for row in list_attempts(reader, run, PageRequest(10)).items]
    assert [(view["number"], view.get("status_code"), view.get("error_class")) for view in views] == [
        (2, 200, None),
        (1, 500, "server"),
    ]
    assert json.loads(views[1]["trace"]).items() >= trace.items()
