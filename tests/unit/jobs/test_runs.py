"""Runs: listed, canceled, replayed, given another time."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import run as run_table
from sluice_agent.jobs.store.store import TABLES, jobs_file
from sluice_agent.server.store.database import open_database, writing
from tests.support.local_sluice import LocalSluice
from tests.unit.jobs.conftest import Clock, Project
from tests.unit.jobs.test_triggers import UNKNOWN, bulk, later, runs_of, trigger


@pytest.fixture
def put(server: LocalSluice) -> Any:
    """Overwrite columns of a run, as an engine does that is not in this server."""
    engine = open_database(jobs_file(Path(server.database)), TABLES)

    def put(run: dict[str, Any], **values: Any) -> None:
        with writing(engine) as writer:
            writer.execute(run_table.update().where(run_table.c.id == run["id"]).values(values))

    yield put
    engine.dispose()


def test_runs_are_found_by_what_they_are(project: Project) -> None:
    """Among a million runs nobody finds those that failed."""
    job, other = project.create(tags={"team": "shop"}), project.create("other")
    first, second = trigger(project, job), trigger(project, other, tags={"team": "bank"})
    project.send("DELETE", f"/runs/{first['id']}")
    batch_id = bulk(project, job, [{}])["batch_id"]
    third = runs_of(project)[0]

    def ids(**parameters: Any) -> list[str]:
        return [run["id"] for run in runs_of(project, **parameters)]

    assert ids() == [third["id"], second["id"], first["id"]]
    assert ids(status="canceled") == [first["id"]]
    assert ids(job_id=other["id"]) == [second["id"]]
    assert ids(batch_id=batch_id) == [third["id"]]
    assert ids(tag_key="team") == ids()
    assert ids(tag_key="team", tag_value="bank") == [second["id"]]
    assert ids(limit=1) == [third["id"]]
    for wrong in ({"status": "lost"}, {"tag_value": "x"}):
        project.refused("GET", "/runs", params={"project_id": project.id, **wrong})


def test_nothing_is_shown_of_the_runs_of_another_project(project: Project) -> None:
    """A run that does not exist, and one of others, must look alike."""
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/replay"),
        ("POST", "/dlq-replay"),
        ("GET", "/dependency-status"),
        ("DELETE", "/idempotency-key"),
    ):
        assert project.refused(method, f"/runs/{UNKNOWN}{path}", status=404) == "Run not found."


def test_a_run_is_canceled_once_with_its_children(project: Project, put: Any) -> None:
    """A run that nobody wants would still call its endpoint."""
    job = project.create()
    parent, child, ended = (trigger(project, job) for _ in range(3))
    put(child, parent_run_id=parent["id"], status="executing")
    put(ended, parent_run_id=parent["id"], status="completed")
    canceled = project.send("DELETE", f"/runs/{parent['id']}")
    assert canceled["status"] == "canceled"
    assert canceled["finished_at"]
    states = {run["id"]: run["status"] for run in runs_of(project)}
    assert states == {parent["id"]: "canceled", child["id"]: "canceled", ended["id"]: "completed"}
    assert "canceled can't be canceled" in project.refused("DELETE", f"/runs/{parent['id']}", status=409)


@pytest.mark.parametrize("status", list(Status))
def test_only_runs_that_failed_are_replayed(project: Project, put: Any, status: Status) -> None:
    """A run that goes on, or that has succeeded, would be done twice."""
    job = project.create(run_ttl_secs=50)
    run = trigger(project, job, key="k", payload={"n": 1.50}, priority=3, tags={"a": "b"}, concurrency_key="c")
    put(run, status=status.value, attempt=3, error="HTTP 500", finished_at=1, retries=2)
    changed = project.send("PATCH", f"/jobs/{job['id']}", {"timeout_secs": 9})
    path = f"/runs/{run['id']}/replay"
    if status.value not in ("failed", "timed_out", "crashed", "system_failed", "dead_letter"):
        project.refused("POST", path, status=409)
        return
    replay = project.send("POST", path, status=201)
    assert replay["id"] != run["id"]
    for name in ("payload", "priority", "tags", "concurrency_key"):
        assert replay[name] == run[name]
    assert (replay["status"], replay["attempt"], replay["job_version"]) == ("queued", 1, changed["version"])
    assert not replay.keys() & {"idempotency_key", "error", "finished_at"}
    assert project.send("GET", f"/runs/{run['id']}")["status"] == status.value


def test_a_dead_letter_begins_again_as_the_same_run(project: Project, put: Any) -> None:
    """A run that failed while its endpoint was down would have to be triggered anew, under another id."""
    job = project.create()
    run = trigger(project, job)
    path = f"/runs/{run['id']}/dlq-replay"
    project.refused("POST", path, status=409)
    put(run, status="dead_letter", attempt=3, retries=2, error="HTTP 500", finished_at=1, started_at=1)
    again = project.send("POST", path)
    assert (again["id"], again["status"], again["attempt"]) == (run["id"], "queued", 1)
    assert not again.keys() & {"error", "finished_at", "started_at"}
    put(run, status="dead_letter")
    project.send("POST", "/jobs/batch-disable", {"ids": [job["id"]]})
    for refused in (path, f"/runs/{run['id']}/replay"):
        assert "disabled" in project.refused("POST", refused)


def test_a_delayed_run_is_given_another_time(project: Project, clock: Clock) -> None:
    """A run that was scheduled for the wrong day would have to be canceled, and its key would be used up."""
    job = project.create(run_ttl_secs=60)
    run = trigger(project, job, scheduled_at=later(clock, hours=1))
    path = f"/runs/{run['id']}/reschedule"
    at = later(clock, hours=3)
    moved = project.send("POST", path, {"scheduled_at": at})
    assert datetime.fromisoformat(moved["scheduled_at"]) == datetime.fromisoformat(at)
    assert datetime.fromisoformat(moved["expires_at"]) == datetime.fromisoformat(at) + timedelta(seconds=60)
    for wrong in ({}, {"scheduled_at": later(clock, days=31)}, {"scheduled_at": "soon"}):
        assert "scheduled_at" in project.refused("POST", path, wrong)
    begun = project.send("POST", path, {"scheduled_at": later(clock, hours=-1)})
    assert begun["status"] == "queued"
    project.refused("POST", path, {"scheduled_at": at}, 409)


def test_a_job_with_runs_is_deleted_when_they_have_ended(project: Project) -> None:
    """A run would be executed by settings that nobody can read any more."""
    job = project.create()
    run = trigger(project, job, tags={"a": "b"})
    assert "not ended" in project.refused("DELETE", f"/jobs/{job['id']}", status=409)
    project.send("DELETE", f"/runs/{run['id']}")
    project.send("DELETE", f"/jobs/{job['id']}", status=204)
    project.refused("GET", f"/runs/{run['id']}", status=404)
    assert runs_of(project) == []


def test_debug_mode_is_set_at_any_time_and_goes_on_with_a_replay(project: Project, put: Any) -> None:
    """Who looks into a failure has a run that has failed already: its replay is what can be looked at."""
    job = project.create()
    assert trigger(project, job, debug_mode=True)["debug_mode"] is True
    run = trigger(project, job)
    assert run["debug_mode"] is False
    put(run, status=Status.DEAD_LETTER.value, finished_at=1)
    assert project.send("POST", f"/runs/{run['id']}/debug")["debug_mode"] is True
    assert project.send("POST", f"/runs/{run['id']}/replay", {}, 201)["debug_mode"] is True
    assert project.send("POST", f"/runs/{run['id']}/dlq-replay")["debug_mode"] is True
    assert project.send("POST", f"/runs/{run['id']}/debug", {"debug_mode": False})["debug_mode"] is False
    for wrong in ({"debug_mode": "yes"}, {"on": True}):
        project.refused("POST", f"/runs/{run['id']}/debug", wrong)
    project.send("POST", f"/runs/{UNKNOWN}/debug", {}, 404)
