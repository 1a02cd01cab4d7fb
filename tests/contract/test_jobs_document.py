"""The document of the jobs API: its requests, and exactly the fields of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from tests.contract.documents.examples import Sample, samples
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.jobs.test_definitions import FULL

SAMPLES = {(sample.method, sample.path): sample for sample in samples("jobs_api")}
JOB, VERSION = SAMPLES["GET", "/v1/jobs/string"], SAMPLES["GET", "/v1/jobs/string/versions/string"]
ADDED_TO_VERSIONS = {"version_id", "backwards_compatible"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server whose only project is `shop`."""
    options = AccessOptions(connection="shop")
    with local_sluice(tmp_path_factory.mktemp("server") / "s.db", options=options, has_jobs=True) as server:
        yield server


class Documented:
    """Sends the requests of the document, about a job with every field set."""

    def __init__(self, server: LocalSluice) -> None:
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR)
        self.client = server.client({"Authorization": f"Bearer {key.secret}"}, "")
        self._number = 0
        self.job = self.send("POST", "/v1/jobs", self.new_job(), 201)

    def new_job(self) -> dict[str, Any]:
        """Return the body of a job with every field set, with a slug of its own."""
        self._number += 1
        required = {"project_id": "shop", "name": "Mail", "endpoint_url": "https://example.com/hook"}
        return {**required, "slug": f"mail-{self._number}", **FULL}

    def send(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Send a request, and return the body of the answer, which has this status."""
        response = self.client.request(method, path, **({} if body is None else {"json": body}))
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture(scope="module")
def documented(server: LocalSluice) -> Documented:
    return Documented(server)


def keys_of(value: Any, sample: Any) -> Any:
    """Return the keys of a body, as deep as those of the sample are the names of fields."""
    if isinstance(sample, list) and isinstance(sample[0], dict):
        return [keys_of(item, sample[0]) for item in value]
    if not isinstance(sample, dict) or not sample or "property1" in sample:
        return type(value) is type(sample)
    return {name: keys_of(item, sample.get(name)) for name, item in value.items()}


def assert_equal_shape(body: Any, sample: Sample, added: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Fail unless `body` has exactly the fields of the sample, and those that are `added`."""
    shown, expected = body, sample.answer
    if isinstance(expected, list):
        (shown,), (expected,) = body[:1], expected
    shown = {name: value for name, value in shown.items() if name not in added}
    assert keys_of(shown, expected) == keys_of(expected, expected)


def test_all_requests_of_the_document_are_tested() -> None:
    """A part of the document that no test reads could change unseen."""
    assert len(SAMPLES) == 17


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/jobs?project_id=string"), ("GET", "/v1/jobs/string"), ("PATCH", "/v1/jobs/string")],
)
def test_a_job_has_the_fields_of_the_document(documented: Documented, method: str, path: str) -> None:
    """A client that was generated from the document would fail at a field more, or miss one."""
    sent = path.replace("jobs/string", f"jobs/{documented.job['id']}").replace("=string", "=shop")
    assert_equal_shape(documented.send(method, sent, None if method == "GET" else {}), SAMPLES[method, path])


def test_jobs_that_are_made_have_the_fields_of_the_document(documented: Documented) -> None:
    """A client that was generated from the document would fail at a field more, or miss one."""
    made = documented.send("POST", "/v1/jobs", documented.new_job(), 201)
    assert_equal_shape(made, SAMPLES["POST", "/v1/jobs"])
    made = documented.send("POST", "/v1/jobs/batch", [documented.new_job()], 201)
    assert_equal_shape(made, SAMPLES["POST", "/v1/jobs/batch"])
    path = f"/v1/jobs/{documented.job['id']}/clone"
    made = documented.send("POST", path, {"name": "Copy", "slug": "copy"}, 201)
    assert_equal_shape(made, SAMPLES["POST", "/v1/jobs/string/clone"])


def test_versions_have_the_fields_of_the_document(documented: Documented) -> None:
    """A client that was generated from the document would fail at a field more, or miss one."""
    job = documented.job
    versions = documented.send("GET", f"/v1/jobs/{job['id']}/versions")
    assert_equal_shape(versions, SAMPLES["GET", "/v1/jobs/string/versions"], ADDED_TO_VERSIONS)
    version = documented.send("GET", f"/v1/jobs/{job['id']}/versions/{job['version_id']}")
    assert_equal_shape(version, VERSION, ADDED_TO_VERSIONS)


def test_dependencies_have_the_fields_of_the_document(documented: Documented) -> None:
    """A client that was generated from the document would fail at a field more, or miss one."""
    other = documented.send("POST", "/v1/jobs", documented.new_job(), 201)
    path = f"/v1/jobs/{other['id']}/dependencies"
    made = documented.send("POST", path, {"depends_on_job_id": documented.job["id"]}, 201)
    assert_equal_shape(made, SAMPLES["POST", "/v1/jobs/string/dependencies"])
    assert_equal_shape(documented.send("GET", path), SAMPLES["GET", "/v1/jobs/string/dependencies"])
    assert documented.client.delete(f"{path}/{made['id']}").status_code == 204


NEVER_SET = {
    "workflow_step_run_id",
    "max_attempts_override",
    "timeout_secs_override",
    "retry_backoff",
    "retry_initial_delay_secs",
    "retry_max_delay_secs",
}
"""Fields of runs that nobody can set: they belong to workflows, which the document does not have."""

OF_AN_EXECUTION = {
    "result",
    "error",
    "started_at",
    "finished_at",
    "heartbeat_at",
    "next_retry_at",
    "parent_run_id",
    "execution_trace",
    "continuation_of",
}
"""Fields that a run has only later."""

ADDED_TO_TRIGGERS = {"payload_hash", "run_token", "idempotency_hit"}


def test_a_run_has_the_fields_of_the_document(documented: Documented) -> None:
    """A client that was generated from the document would fail at a field more, or miss one."""
    sample = SAMPLES["POST", "/v1/jobs/string/trigger"]
    job = documented.send("POST", "/v1/jobs", documented.new_job() | {"dedup_window_secs": 0}, 201)
    path = f"/v1/jobs/{job['id']}/trigger"
    at = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    body = {"payload": {"to": "x"}, "idempotency_key": "k", "concurrency_key": "c", "scheduled_at": at}
    run = documented.send("POST", path, body, 201)
    bulk = documented.send("POST", f"{path}/bulk", {"items": [{"payload": {"to": "x"}}]}, 201)
    found = documented.send("GET", f"/v1/runs/{bulk['results'][0]['id']}")
    assert run.keys() | {"batch_id"} == sample.answer.keys() - NEVER_SET - OF_AN_EXECUTION | ADDED_TO_TRIGGERS
    assert found.keys() <= sample.answer.keys()
    assert found["batch_id"] == bulk["batch_id"]
    assert_equal_shape(bulk, SAMPLES["POST", "/v1/jobs/string/trigger/bulk"], {"batch_id"})
