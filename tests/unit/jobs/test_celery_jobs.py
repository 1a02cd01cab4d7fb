"""Celery tasks as jobs, over the API: what is accepted, and what an error says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.celery_client import broker_at
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.jobs.conftest import Clock, Project

MAIL = "celery://shop.mail"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server whose broker is away, so that runs wait."""
    directory = tmp_path_factory.mktemp("server")
    engine = EngineOptions(tasks=("shop.*",), task_queues=("mail",), poll=0.05)
    actions = ActionOptions(Brokers(default=broker_at("redis://127.0.0.1:1/0")))
    with local_sluice(directory / "s.db", has_jobs=True, engine=engine, actions=actions) as server:
        yield server


def test_attempts_are_one_unless_they_are_set(project: Project) -> None:
    """A task would be published again after its failure, although nobody has asked for that."""
    absent, zero, more = (
        project.create(f"mail-{name}", endpoint_url=MAIL, **given)
        for name, given in (("absent", {}), ("zero", {"max_attempts": 0}), ("more", {"max_attempts": 3}))
    )
    assert [job["max_attempts"] for job in (absent, zero, more)] == [1, 1, 3]
    assert project.send("GET", f"/jobs/{absent['id']}")["max_attempts"] == 1
    http = project.create("http")
    assert http["max_attempts"] == 3
    changed = project.send("PATCH", f"/jobs/{http['id']}", {"endpoint_url": MAIL})
    assert changed["max_attempts"] == 1
    assert project.send("PATCH", f"/jobs/{http['id']}", {"max_attempts": 2})["max_attempts"] == 2
    assert project.send("PATCH", f"/jobs/{http['id']}", {"description": "x"})["max_attempts"] == 2
    assert project.send("PATCH", f"/jobs/{http['id']}", {"max_attempts": 0})["max_attempts"] == 1
    back = project.send("PATCH", f"/jobs/{more['id']}", {"endpoint_url": "http://127.0.0.1:9/x", "max_attempts": 0})
    assert back["max_attempts"] == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"endpoint_url": "celery://other.mail"}, "SLUICE_JOBS_TASKS"),
        ({"endpoint_url": "celery://shop.mail?queue=sluice.jobs"}, "SLUICE_JOBS_QUEUES"),
        ({"endpoint_url": "celery://sluice.run"}, "internal"),
        ({"endpoint_url": "celery://shop.mail/x"}, "such as celery://"),
        ({"endpoint_url": "Celery://shop.mail"}, "http://"),
        ({"endpoint_url": MAIL, "fallback_endpoint_url": "http://127.0.0.1:9/x"}, "fallback_endpoint_url"),
        ({"fallback_endpoint_url": MAIL}, "http://"),
        ({"webhook_url": MAIL}, "http://"),
        ({"endpoint_url": f"{MAIL}?args=1", "cron": "0 0 * * *", "cron_payload": {"to": "a"}}, "cron_payload"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason(project: Project, fields: dict[str, Any], reason: str) -> None:
    """A job that can never run would be found out by its first firing."""
    job = {"project_id": project.id, "name": "Mail", "slug": "mail", "endpoint_url": "http://127.0.0.1:9/hook"}
    assert reason in project.refused("POST", "/jobs", job | fields)
    assert reason in project.refused("POST", "/jobs/batch", [job | fields])
    plain = project.create()
    assert reason in project.refused("PATCH", f"/jobs/{plain['id']}", fields)
    assert [item["id"] for item in project.list()] == [plain["id"]]


@pytest.mark.parametrize(
    ("url", "payload", "reason"),
    [
        (MAIL, [1], "must be an object"),
        (MAIL, "x", "must be an object"),
        (f"{MAIL}?args=1", {"to": "a"}, "args"),
        (f"{MAIL}?args=1", {"args": "a"}, "a list"),
    ],
)
def test_a_payload_that_is_no_call_is_refused(project: Project, url: str, payload: Any, reason: str) -> None:
    """A worker would fail with an error of Python, long after the client has gone."""
    job = project.create(endpoint_url=url)
    for path, body in (("", {"payload": payload}), ("/bulk", {"items": [{}, {"payload": payload}]})):
        assert reason in project.refused("POST", f"/jobs/{job['id']}/trigger{path}", body)
    assert reason in project.refused("POST", f"/jobs/{job['id']}/trigger", {"payload": payload, "dry_run": True})


def test_what_holds_for_requests_holds_for_tasks(project: Project) -> None:
    """Keys, windows, schemas and limits of the API would not protect a task."""
    schema = {"type": "object", "required": ["to"]}
    job = project.create(endpoint_url=MAIL, payload_schema=schema, dedup_window_secs=60, rate_limit_max=3,
                         rate_limit_window_secs=60)  # fmt: skip
    path = f"/jobs/{job['id']}/trigger"
    assert "payload_schema" in project.refused("POST", path, {})
    first = project.send("POST", path, {"payload": {"to": "a"}, "idempotency_key": "k"}, 201)
    assert project.send("POST", path, {"payload": {"to": "b"}, "idempotency_key": "k"})["id"] == first["id"]
    assert project.send("POST", path, {"payload": {"to": "a"}})["deduplicated"]
    delayed = project.send("POST", path, {"payload": {"to": "c"}, "scheduled_at": "2999-01-01T00:00:00Z"}, 400)
    assert "30 days" in str(delayed)
    assert project.send("GET", f"/runs/{first['id']}")["status"] in ("queued", "dequeued"), "the broker is away"
    assert project.send("DELETE", f"/runs/{first['id']}")["status"] == "canceled"


def test_a_server_without_a_broker_names_the_option(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> None:
    """A user would define a job and wait for ever, without a hint that one option is missing."""
    directory = tmp_path_factory.mktemp("without")
    engine = EngineOptions(tasks=("shop.*",), state_dir=directory)
    with local_sluice(directory / "s.db", has_jobs=True, engine=engine) as server:
        project = Project(server.client(path="/v1"), clock)
        job = {"project_id": project.id, "name": "Mail", "slug": "mail", "endpoint_url": MAIL}
        assert "--broker" in project.refused("POST", "/jobs", job)


def test_a_task_has_no_heads(project: Project) -> None:
    """Who asks for the requests of a task would wait for what never comes."""
    job = project.create(endpoint_url=MAIL)
    trigger = f"/jobs/{job['id']}/trigger"
    assert "a Celery task has no requests" in project.refused("POST", trigger, {"debug_mode": True})
    run = project.send("POST", trigger, {}, 201)
    assert "a Celery task has no requests" in project.refused("POST", f"/runs/{run['id']}/debug")
