"""Schedules over the API: what a client sets, and what it sees of firings; and jobs that are paused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.routes.documented import FoundScheduleBody, PreviewBody, ScheduleBody
from tests.support.endpoint import running
from tests.support.local_sluice import local_sluice
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.unit.jobs.conftest import START, Clock, Project


def schedules(project: Project, **parameters: Any) -> list[dict[str, Any]]:
    """Return the schedules of a project."""
    found: list[dict[str, Any]] = project.send("GET", "/schedules", params={"project_id": project.id} | parameters)
    for schedule in found:
        ScheduleBody.model_validate(schedule)
    return found


def test_a_schedule_is_listed_with_its_next_firing(project: Project) -> None:
    """Nobody could see which jobs run when, or that one is disabled."""
    project.create("none")
    job = project.create("report", cron="30 2 * * *", timezone="Europe/Berlin", cron_overlap_policy="skip")
    project.create("off", cron="0 9 * * *", enabled=False)
    off, report = schedules(project)
    assert report.pop("next_fire_at")[-7:] == ":30:00Z"
    assert report == {
        "job_id": job["id"],
        "project_id": project.id,
        "name": "Mail",
        "slug": "report",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "cron_overlap_policy": "skip",
        "enabled": True,
        "missed_count": 0,
        "skipped_count": 0,
    }
    assert (off["slug"], off["enabled"], "next_fire_at" in off) == ("off", False, False)
    assert [found["slug"] for found in schedules(project, limit=1)] == ["off"]
    other = Project(project.client, project.clock)
    assert schedules(other) == []
    assert other.refused("GET", "/schedules")


def test_the_next_firings_of_a_job_are_shown(project: Project) -> None:
    """Whether the schedule means what its owner thinks would show only by waiting."""
    job = project.create(cron="0 9 * * *", timezone="Asia/Kolkata")
    path = f"/jobs/{job['id']}/schedule"
    found = project.send("GET", path, params={"count": 2})
    FoundScheduleBody.model_validate(found)
    assert [firing[10:] for firing in found["next_firings"]] == ["T03:30:00Z"] * 2
    assert found["next_firings"][0] == found["next_fire_at"]
    project.send("PATCH", f"/jobs/{job['id']}", {"enabled": False})
    assert project.send("GET", path)["next_firings"] == []
    project.send("PATCH", f"/jobs/{job['id']}", {"cron": ""})
    assert "cron" in project.refused("GET", path, status=404)
    assert project.refused("GET", "/jobs/unknown/schedule", status=404)
    for count in (0, 101):
        assert project.refused("GET", path, params={"count": count})


def test_an_expression_is_tried_before_a_job_has_it(project: Project) -> None:
    """A schedule would be saved first, and fire before its mistake is seen."""
    parameters = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "count": 400}
    assert "count" in project.refused("GET", "/schedules/preview", params=parameters)
    found = project.send("GET", "/schedules/preview", params=parameters | {"count": 100})
    PreviewBody.model_validate(found)
    assert "2026-03-29T03:00:00+02:00" in found["local_firings"]
    assert found["next_firings"][0] == "2026-02-28T01:30:00Z"
    for name, wrong in (("cron", {"cron": "@daily"}), ("timezone", {"cron": "* * * * *", "timezone": "Nowhere"})):
        assert name in project.refused("GET", "/schedules/preview", params=wrong)
    assert "cron" in project.refused("GET", "/schedules/preview")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cron_overlap_policy", "queue"),
        ("cron_grace_secs", -1),
        ("cron_grace_secs", 30 * 86_400 + 1),
        ("cron_payload", []),
        ("cron_payload", "x"),
    ],
)
def test_a_wrong_setting_of_the_schedule_is_refused(project: Project, field: str, value: Any) -> None:
    """The mistake would show in the night."""
    job = project.create(cron="0 9 * * *")
    assert field in project.refused("PATCH", f"/jobs/{job['id']}", {field: value})


def test_the_payload_of_cron_fits_the_schema(project: Project) -> None:
    """Each run of the night would send what the job's owner has excluded."""
    schema = {"type": "object", "required": ["to"]}
    job = project.create(cron="0 9 * * *", payload_schema=schema, cron_payload={"to": "x"})
    assert "cron_payload" in project.refused("PATCH", f"/jobs/{job['id']}", {"cron_payload": {"for": "x"}})
    assert "cron_payload" in project.refused("PATCH", f"/jobs/{job['id']}", {"payload_schema": {"maxProperties": 0}})
    project.send("PATCH", f"/jobs/{job['id']}", {"cron_payload": {}})


def test_a_pause_keeps_triggers_and_is_shown(project: Project) -> None:
    """Who pauses a job would lose what is triggered meanwhile, and who looks for a run not see why it waits."""
    job = project.create()
    path = f"/jobs/{job['id']}"
    paused = project.send("POST", f"{path}/pause")
    assert project.send("POST", f"{path}/pause") == paused == project.send("GET", path)
    assert (paused["version"], paused["enabled"]) == (1, True)
    run = project.send("POST", f"{path}/trigger", {}, 201)
    assert run["status"] == "queued"
    assert project.send("GET", f"/runs/{run['id']}")["job_paused_at"] == paused["paused_at"]
    project.send("PATCH", path, {"name": "Other"})
    assert project.send("GET", path)["paused_at"] == paused["paused_at"]
    copy = project.send("POST", f"{path}/clone", {"name": "Copy", "slug": "copy"}, 201)
    assert "paused_at" not in copy
    assert "paused_at" not in project.send("POST", f"{path}/resume")
    assert "job_paused_at" not in project.send("GET", f"/runs/{run['id']}")
    project.refused("POST", "/jobs/unknown/pause", status=404)


def test_a_server_fires_and_shows_what_became_of_it(tmp_path: Path) -> None:
    """A schedule would be stored, listed and never executed; or missed firings go unseen."""
    clock = Clock()
    engine = EngineOptions(poll=0.05, state_dir=tmp_path)
    with (
        running(WebhookReceiver()) as target,
        local_sluice(tmp_path / "s.db", has_jobs=True, engine=engine, now=clock) as server,
    ):
        project = Project(server.client(path="/v1"), clock)
        job = project.create(cron="0 * * * *", endpoint_url=target.hook, cron_payload={"day": "today"})
        clock.now = START.replace(hour=14, minute=0, second=1)  # the firing of 13:00 is missed

        def last() -> dict[str, Any]:
            return schedules(project)[0]

        wait_until(lambda: last().get("last_run_status") == "completed", 30, "no run was made, or it did not end")
        run = project.send("GET", f"/runs/{last()['last_run_id']}")
        assert (run["triggered_by"], run["fire_at"]) == ("cron", "2026-02-27T14:00:00Z")
        shown = last()
        assert (shown["missed_count"], shown["last_missed_at"]) == (1, "2026-02-27T13:00:00Z")
        assert (shown["last_fire_at"], shown["next_fire_at"]) == (run["fire_at"], "2026-02-27T15:00:00Z")
        assert [request.raw for request in target.requests] == [b'{"day":"today"}']
        project.send("DELETE", f"/jobs/{job['id']}", status=204)
        assert schedules(project) == []
