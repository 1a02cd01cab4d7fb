"""Jobs: created, changed, copied, listed and deleted, with their versions and dependencies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.jobs.conftest import Clock, Project

FULL: dict[str, Any] = {
    "group_id": "group",
    "description": "Sends mail",
    "cron": "0 9 * * MON-FRI",
    "payload_schema": {"type": "object", "required": ["to"]},
    "tags": {"team": "shop"},
    "fallback_endpoint_url": "http://127.0.0.1:9/fallback",
    "max_attempts": 5,
    "timeout_secs": 60,
    "max_concurrency": 4,
    "execution_window_cron": "* 9-17 * * 1-5",
    "timezone": "Europe/Berlin",
    "rate_limit_max": 100,
    "rate_limit_window_secs": 60,
    "max_concurrency_per_key": 1,
    "rate_limit_keys": [{"name": "mail", "max": 10, "window_secs": 60}],
    "default_run_metadata": {"region": "eu"},
    "dedup_window_secs": 30,
    "webhook_url": "http://127.0.0.1:9/done",
    "webhook_secret": "whsec_of_the_mail_job",
    "run_ttl_secs": 3600,
    "retry_strategy": "custom",
    "retry_delays_secs": [1, 5, 30],
    "environment_id": "production",
    "version_policy": "minor",
    "backwards_compatible": True,
}


def test_a_job_keeps_what_it_was_given(project: Project) -> None:
    """A setting that is accepted and lost would make the job run otherwise than its owner reads."""
    created = project.create(**FULL)
    assert {name: created[name] for name in FULL} == FULL | {"webhook_secret": "****_job"}
    assert project.send("GET", f"/jobs/{created['id']}") == created
    assert project.list() == [created]


def test_what_is_empty_is_absent_and_numbers_have_their_defaults(project: Project) -> None:
    """A client that distinguishes absent from null would read a setting that nobody made."""
    empty = {"description": "", "tags": {}, "max_attempts": 0, "timeout_secs": None, "retry_delays_secs": []}
    created = project.create(**empty)
    assert created.keys() == {
        *("id", "project_id", "name", "slug", "endpoint_url", "max_attempts", "timeout_secs", "enabled", "version"),
        *("version_id", "version_policy", "created_by", "updated_by", "created_at", "updated_at"),
    }
    assert (created["max_attempts"], created["timeout_secs"], created["version"]) == (3, 300, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 256),
        ("name", "é" * 128),
        ("name", 7),
        ("slug", "x" * 129),
        ("slug", "a\nb"),
        ("description", "\0"),
        ("endpoint_url", ""),
        ("endpoint_url", "ftp://example.com"),
        ("endpoint_url", "http://user:password@example.com"),
        ("endpoint_url", "http://169.254.169.254/latest"),
        ("endpoint_url", "https://example.com/" + "x" * 2048),
        ("fallback_endpoint_url", "http://[::ffff:127.0.0.1]/"),
        ("webhook_url", "nothing"),
        ("max_attempts", -1),
        ("max_attempts", 101),
        ("max_attempts", True),
        ("max_attempts", 1.5),
        ("timeout_secs", 86_401),
        ("max_concurrency", -1),
        ("max_concurrency_per_key", "1"),
        ("cron", "@daily"),
        ("cron", "* * * * * *"),
        ("cron", "0 0 31 2 *"),
        ("execution_window_cron", "9-5 * * * *"),
        ("timezone", "Europe/Nowhere"),
        ("rate_limit_max", -1),
        ("rate_limit_keys", [{"name": "x", "max": 0, "window_secs": 1}]),
        ("rate_limit_keys", [{"name": "x", "max": 1, "window_secs": 1, "more": 1}]),
        ("dedup_window_secs", 2**31),
        ("run_ttl_secs", -1),
        ("retry_strategy", "hope"),
        ("retry_delays_secs", [0]),
        ("tags", {f"{number}": "" for number in range(21)}),
        ("tags", {"": "x"}),
        ("tags", {"x" * 65: ""}),
        ("tags", {"x": "y" * 257}),
        ("tags", {"x": 1}),
        ("default_run_metadata", {"x": None}),
        ("version_policy", "newest"),
        ("payload_schema", {"type": 7}),
        ("payload_schema", []),
        ("enabled", "yes"),
        ("id", "mine"),
        ("version", 7),
    ],
)
def test_a_value_that_can_not_be_right_is_refused_by_create_and_update(
    project: Project, field: str, value: Any
) -> None:
    """The mistake would show when the job runs, or never."""
    body = {"project_id": project.id, "name": "Mail", "slug": "mail", "endpoint_url": "http://127.0.0.1:9/"}
    assert field in project.refused("POST", "/jobs", body | {field: value})
    assert project.list() == []
    job = project.create()
    assert field in project.refused("PATCH", f"/jobs/{job['id']}", {field: value})
    assert project.send("GET", f"/jobs/{job['id']}") == job


def test_a_slug_is_unique_in_its_project(project: Project, clock: Clock) -> None:
    """Of two jobs with one slug nobody could tell which one runs."""
    second = [project.create("a"), project.create("b")][1]
    again = {"project_id": project.id, "name": "x", "slug": "a", "endpoint_url": "http://127.0.0.1:9/"}
    assert "slug a already" in project.refused("POST", "/jobs", again, 409)
    assert "slug a already" in project.refused("PATCH", f"/jobs/{second['id']}", {"slug": "a"}, 409)
    assert "slug a already" in project.refused("POST", f"/jobs/{second['id']}/clone", {"name": "x", "slug": "a"}, 409)
    Project(project.client, clock).create("a")


def test_an_update_makes_a_version_and_the_old_one_stays(project: Project) -> None:
    """Runs that are pinned to a version would execute with settings that were changed under them."""
    job = project.create(**FULL)
    path = f"/jobs/{job['id']}"
    changed = project.send("PATCH", path, {"description": "", "timeout_secs": 90, "cron": None})
    assert (changed["version"], changed["timeout_secs"], changed["cron"]) == (2, 90, FULL["cron"])
    assert "description" not in changed
    assert changed["version_id"] != job["version_id"]
    versions = project.send("GET", f"{path}/versions")
    assert [(version["version"], version["timeout_secs"]) for version in versions] == [(2, 90), (1, 60)]
    for version in versions:
        assert project.send("GET", f"{path}/versions/{version['version_id']}") == version
        assert version["webhook_secret"] == "****_job"
    other = project.create("other")
    project.refused("GET", f"/jobs/{other['id']}/versions/{job['version_id']}", status=404)


def test_an_update_that_changes_nothing_makes_no_version(project: Project) -> None:
    """A script that applies its settings each night would fill the history with equal versions."""
    job = project.create(**FULL)
    for body in ({}, FULL, {"webhook_secret": "****_job"}, {"enabled": True}):
        assert project.send("PATCH", f"/jobs/{job['id']}", body) == job


def test_an_update_of_a_version_that_is_not_the_current_one_is_refused(project: Project) -> None:
    """Of two people who change a job at once, one would undo the other's change without a sign."""
    path = f"/jobs/{project.create()['id']}"
    for name, version, status in (("A", '"1"', 200), ("B", '"1"', 409), ("C", "2", 200)):
        project.send("PATCH", path, {"name": name}, status, headers={"If-Match": version})
    assert project.send("GET", path)["name"] == "C"


def test_jobs_are_switched_together_without_a_version(project: Project) -> None:
    """Each pause of all jobs would count as a change of their settings."""
    ids = [project.create(slug, cron="0 9 * * *")["id"] for slug in "abc"]
    for path, body, enabled in (
        ("/jobs/batch-disable", {"ids": [*ids[:2], "unknown"]}, [True, False, False]),
        ("/jobs/batch-enable", {"job_ids": ids[:1]}, [True, False, True]),
    ):
        assert project.send("POST", path, body) == {"updated": len(set(ids) & set(next(iter(body.values()))))}
        assert [(job["enabled"], job["version"]) for job in project.list()] == [(value, 1) for value in enabled]
    for wrong in ({}, {"ids": []}, {"ids": ["x"] * 51}, {"ids": ["x"], "job_ids": ["y"]}):
        project.refused("POST", "/jobs/batch-enable", wrong)


def test_an_array_of_jobs_is_made_whole_or_not_at_all(project: Project) -> None:
    """A script that repeats a batch which failed would meet conflicts with its own jobs."""
    job = {"project_id": project.id, "name": "Mail", "endpoint_url": "http://127.0.0.1:9/"}
    for slugs, status in (("aba", 409), ("ab", 201)):
        project.send("POST", "/jobs/batch", [job | {"slug": slug} for slug in slugs], status)
    assert "1" in project.refused("POST", "/jobs/batch", [job | {"slug": "c"}, job])
    assert "1" in project.refused("POST", "/jobs/batch", [job | {"slug": "c"}, FULL | job | {"slug": "", "cron": "x"}])
    for wrong in ([], [job | {"slug": f"{number}"} for number in range(51)]):
        project.refused("POST", "/jobs/batch", wrong)
    assert [found["slug"] for found in project.list()] == ["b", "a"]


def test_of_an_object_with_jobs_each_is_made_that_can_be(project: Project) -> None:
    """One wrong job of fifty would hold the others up."""
    job = {"project_id": project.id, "name": "Mail", "endpoint_url": "http://127.0.0.1:9/"}
    bodies = [job | {"slug": "a"}, job | {"slug": "a"}, job, job | {"slug": "b"} | FULL]
    answer = project.send("POST", "/jobs/batch", {"jobs": bodies}, 201)
    assert [made["slug"] for made in answer["created"]] == ["a", "b"]
    assert answer["created"][1] == project.list()[0]
    assert [(error["index"], error["message"]) for error in answer["errors"]] == [
        (1, "The project has a job with the slug a already: choose another one."),
        (2, "slug: Field required"),
    ]
    answer = project.send("POST", "/jobs/batch", {"jobs": [job]}, 400)
    assert (answer["created"], len(answer["errors"])) == ([], 1)


def test_a_clone_has_all_settings_and_a_history_of_its_own(project: Project) -> None:
    """A copy without the limits of its source would flood the endpoint."""
    source = project.create(**FULL)
    project.send("PATCH", f"/jobs/{source['id']}", {"timeout_secs": 61})
    clone = project.send("POST", f"/jobs/{source['id']}/clone", {"name": "Copy", "slug": "copy"}, 201)
    expected = FULL | {"timeout_secs": 61, "webhook_secret": "****_job", "name": "Copy", "slug": "copy", "version": 1}
    assert {name: clone[name] for name in expected} == expected
    off = {"name": "Off", "slug": "off", "enabled": False}
    assert project.send("POST", f"/jobs/{source['id']}/clone", off, 201)["enabled"] is False
    assert "slug" in project.refused("POST", f"/jobs/{source['id']}/clone", {"name": "x"})


def test_jobs_are_found_by_tag_and_slug(project: Project) -> None:
    """With hundreds of jobs nobody finds the own ones."""
    project.create("a", tags={"team": "shop"})
    job = project.create("b", tags={"team": "bank"})
    project.create("c")
    assert [found["slug"] for found in project.list(tag_key="team")] == ["b", "a"]
    assert [found["slug"] for found in project.list(tag_key="team", tag_value="shop")] == ["a"]
    assert [found["slug"] for found in project.list(slug="c")] == ["c"]
    project.send("PATCH", f"/jobs/{job['id']}", {"tags": {}})
    assert [found["slug"] for found in project.list(tag_key="team")] == ["a"]
    assert project.refused("GET", "/jobs", params={"project_id": project.id, "tag_value": "shop"})


def test_a_deleted_job_is_gone_with_its_versions_and_dependencies(project: Project) -> None:
    """A job that waits for one that is gone would wait for ever."""
    first, second = project.create("a", tags={"x": "y"}), project.create("b")
    project.send("POST", f"/jobs/{second['id']}/dependencies", {"depends_on_job_id": first["id"]}, 201)
    project.send("DELETE", f"/jobs/{first['id']}", status=204)
    for path in (f"/jobs/{first['id']}", f"/jobs/{first['id']}/versions/{first['version_id']}"):
        project.refused("GET", path, status=404)
    assert project.send("GET", f"/jobs/{second['id']}/dependencies") == []
    project.create("a")


def test_dependencies_are_listed_and_deleted(project: Project) -> None:
    """A dependency that was added by mistake would hold up all runs."""
    a, b, c = (project.create(slug)["id"] for slug in "abc")
    path = f"/jobs/{a}/dependencies"
    made = [
        project.send("POST", path, {"depends_on_job_id": b}, 201),
        project.send("POST", path, {"depends_on_job_id": c, "condition": "any"}, 201),
    ]
    assert [dependency["condition"] for dependency in made] == ["completed", "any"]
    assert project.send("GET", path) == made[::-1]
    project.refused("DELETE", f"/jobs/{b}/dependencies/{made[0]['id']}", status=404)
    project.send("DELETE", f"{path}/{made[0]['id']}", status=204)
    project.refused("DELETE", f"{path}/{made[0]['id']}", status=404)
    assert project.send("GET", path) == made[1:]


def test_no_job_depends_on_itself_directly_or_through_others(project: Project, clock: Clock) -> None:
    """Jobs that wait for each other would never run again, without a sign."""
    a, b, c = (project.create(slug)["id"] for slug in "abc")
    for job, target in ((a, b), (b, c)):
        project.send("POST", f"/jobs/{job}/dependencies", {"depends_on_job_id": target}, 201)
    stranger = Project(project.client, clock).create()["id"]
    for job, target, status in ((c, a, 400), (a, a, 400), (a, stranger, 400), (a, "unknown", 400), (a, b, 409)):
        project.refused("POST", f"/jobs/{job}/dependencies", {"depends_on_job_id": target}, status)
    project.refused("POST", f"/jobs/{a}/dependencies", {"depends_on_job_id": c, "condition": "maybe"})
    project.send("POST", f"/jobs/{a}/dependencies", {"depends_on_job_id": c}, 201)
