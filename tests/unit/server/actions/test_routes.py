"""The routes that act, over a real server with a broker that keeps what is sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from tests.support.local_sluice import LocalSluice
from tests.support.waiting import wait_until
from tests.unit.server.actions.conftest import WHOLE, RecordedBroker
from tests.unit.server.events import CONNECTION, job_event

OTHER = "550e8400-e29b-41d4-a716-446655440001"


class Office:
    """A server with two connections: one has a broker, the other is named in no option."""

    def __init__(self, directory: Path) -> None:
        self.broker = RecordedBroker()
        options = ActionOptions(Brokers({CONNECTION: self.broker}), ("app.*",))
        self.server = LocalSluice(directory / "s.db", actions=options)
        self.ingest = {id_: self.client(Role.INGEST, id_) for id_ in (CONNECTION, OTHER)}
        self.operator = self.client(Role.OPERATOR, CONNECTION)

    def client(self, role: Role, connection: str) -> httpx.Client:
        """Return a client with a new key."""
        accounts = self.server.access.accounts
        key = accounts.create_key(accounts.open_connection(connection)[0], role)
        return self.server.client({"Authorization": f"Bearer {key.secret}"})

    def add_job(self, job: str, state: str = "failed", connection: str = CONNECTION, **extensions: Any) -> None:
        """Send the event of a job."""
        event = job_event(state, 1, externalId=job, queue="emails", extensions={**WHOLE, **extensions})
        response = self.ingest[connection].post("/ingest", json={"events": [{**event, "connectionId": connection}]})
        assert response.json()["accepted"] == 1, response.text


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One server for all tests of this module."""
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.server.stop()
    office.server.join()


def refused(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_a_retry_answers_as_the_vendor_does(office: Office) -> None:
    """A client of the vendor's API would not understand the answer."""
    office.add_job("job-a")
    record = office.operator.get("/jobs/job-a").json()
    answer = office.operator.post(f"/jobs/{record['id']}/retry").json()
    assert answer.keys() == {"id", "state", "message", "retriedAs"}
    assert (answer["id"], answer["state"]) == (record["id"], "retrying")
    assert office.broker.sent[-1][0] == answer["retriedAs"]["externalId"]
    new = office.operator.get(f"/jobs/{answer['retriedAs']['id']}").json()
    assert new["extensions"]["retryOf"] == "job-a"


def test_an_id_may_have_any_characters(office: Office) -> None:
    """A caller chooses the id of a job, and could not act on it."""
    office.add_job("a/b?c%d/retry")
    path = "/jobs/a%2Fb%3Fc%25d%2Fretry"
    assert office.operator.post(f"{path}/retry", params={"dryRun": "true"}).json()["args"] == [1]
    assert office.operator.post("/jobs/a/b/c/retry").status_code == 404


def test_a_dry_run_sends_nothing(office: Office) -> None:
    """Whoever retries must see name and arguments before: an event may be forged."""
    office.add_job("job-dry")
    office.add_job("job-active", "active")
    sent = len(office.broker.sent)
    preview = office.operator.post("/jobs/job-dry/retry", params={"dryRun": "true"}).json()
    assert preview == {
        "id": office.operator.get("/jobs/job-dry").json()["id"],
        "dryRun": True, "name": "app.tasks.send_email", "queue": "emails",
        "args": [1], "kwargs": {"a": "b"}, "notes": [],
    }  # fmt: skip
    ids = {"ids": ["job-dry", "job-active"]}
    first, second = office.operator.post("/jobs/bulk/retry", params={"dryRun": "true"}, json=ids).json()["jobs"]
    assert (first["args"], second["success"]) == ([1], False)
    assert office.operator.post("/jobs/job-active/revoke", params={"dryRun": "true"}).json()["state"] == "active"
    assert (len(office.broker.sent), office.broker.revoked) == (sent, [])


def test_who_may_act(office: Office) -> None:
    """A viewer could run tasks, or an operator of one cluster those of another."""
    office.add_job("job-own")
    office.add_job("job-other", connection=OTHER)
    assert refused(office.client(Role.VIEWER, CONNECTION).post("/jobs/job-own/retry"))[0] == 403
    assert refused(office.ingest[CONNECTION].post("/jobs/job-own/retry"))[0] in (401, 403)
    assert refused(office.server.client({}).post("/jobs/job-own/retry"))[0] == 401
    assert refused(office.operator.post("/jobs/job-other/retry"))[0] == 404
    assert refused(office.operator.post("/jobs/job-missing/retry")) == (404, "Job not found.")
    results = office.operator.post("/jobs/bulk/retry", json={"ids": ["job-other"]}).json()["results"]
    assert results == [{"id": "job-other", "success": False, "error": "Job not found."}]
    wanted = {"filter": {"connectionId": OTHER}}
    assert refused(office.operator.post("/jobs/bulk/retry", json=wanted))[0] == 404


def test_nobody_but_an_operator_has_a_body_read(office: Office) -> None:
    """Who has no key could otherwise make the server keep and parse bodies, and learn which are valid."""
    port = int(office.server.url.rpartition(":")[2])
    head = "POST /api/jobs/bulk/retry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_a_connection_without_a_broker_is_a_400(office: Office) -> None:
    """Its jobs would be sent to the broker of another cluster."""
    office.add_job("job-without", connection=OTHER)
    status, message = refused(office.client(Role.OPERATOR, OTHER).post("/jobs/job-without/retry"))
    assert status == 400
    assert f"--broker {OTHER}=URL" in message


def test_a_broker_that_is_away_refuses_the_request_at_once(office: Office) -> None:
    """Each of a hundred jobs would wait for the broker in turn."""
    office.add_job("job-away-1")
    office.add_job("job-away-2")
    office.broker.is_away = True
    try:
        response = office.operator.post("/jobs/bulk/retry", json={"ids": ["job-away-1", "job-away-2"]})
        single = office.operator.post("/jobs/job-away-1/retry")
    finally:
        office.broker.is_away = False
    assert refused(response)[0] == refused(single)[0] == 503
    assert single.headers["Retry-After"] == "5"
    assert "can't be reached" in refused(single)[1]


def test_jobs_of_a_filter_run_in_the_background_and_can_be_cancelled(office: Office) -> None:
    """Nobody would see how far a thousand retries are, or could stop them."""
    for number in range(3):
        office.add_job(f"job-bulk-{number}", groupId="bulk")
    answer = office.operator.post("/jobs/bulk/retry", json={"filter": {"groupId": "bulk"}})
    assert answer.status_code == 202
    path = f"/bulk-actions/{answer.json()['id']}"
    wait_until(lambda: office.operator.get(path).json()["state"] == "completed", 10, "it does not end")
    progress = office.operator.get(path).json()
    assert (progress["total"], progress["succeeded"], progress["filter"]) == (3, 3, {"groupId": "bulk"})
    assert progress["by"].startswith("key ")
    assert refused(office.operator.post(f"{path}/cancel"))[0] == 400
    assert refused(office.client(Role.OPERATOR, OTHER).get(path))[0] == 404
    assert refused(office.operator.get("/bulk-actions/none"))[0] == 404
    office.broker.is_away = True
    try:
        waiting = office.operator.post(
            "/jobs/bulk/retry", params={"again": "true"}, json={"filter": {"groupId": "bulk"}}
        )
        cancelled = office.operator.post(f"/bulk-actions/{waiting.json()['id']}/cancel").json()
    finally:
        office.broker.is_away = False
    assert (cancelled["state"], cancelled["succeeded"]) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"filter": {"state": "completed"}}, "completed"),
        ({"filter": {"state": ["failed", "active"]}}, "active"),
        ({"filter": {"queues": "a"}}, "not valid"),
        ({"filter": {"from": "yesterday"}}, "not valid"),
        ({"ids": []}, "not valid"),
        ({"ids": ["a"] * 101}, "not valid"),
        ({"ids": ["a"], "filter": {}}, "ids"),
        ({"ids": None}, "ids"),
        ([], "not valid"),
    ],
)
def test_a_body_that_is_not_valid_is_a_400(office: Office, body: Any, part: str) -> None:
    """A misspelt filter would select all jobs."""
    status, message = refused(office.operator.post("/jobs/bulk/retry", json=body))
    assert status == 400
    assert part in message


def test_nothing_is_retried_where_any_key_may_write(tmp_path: Path) -> None:
    """On a developer's machine any program could forge a job, and wait for a click."""
    broker = RecordedBroker()
    server = LocalSluice(tmp_path / "s.db", actions=ActionOptions(Brokers(default=broker)))
    try:
        event = job_event("failed", 1, queue="emails", extensions=WHOLE)
        server.client().post("/ingest", json={"events": [event]}).raise_for_status()
        accounts = server.access.accounts
        secret = accounts.create_key(accounts.open_connection(CONNECTION)[0], Role.OPERATOR).secret
        operator = server.client({"Authorization": f"Bearer {secret}"})
        status, message = refused(operator.post("/jobs/job-1/retry"))
        assert status == 403
        assert "sluice-agent key create --connection NAME --role ingest" in message
        accounts.create_key(accounts.open_connection(CONNECTION)[0], Role.INGEST)
        assert operator.post("/jobs/job-1/retry").status_code == 200
        accounts.create_key(accounts.open_connection(OTHER)[0], Role.INGEST)
        status, message = refused(operator.post("/jobs/job-1/retry", params={"again": "true"}))
        assert status == 400
        assert "several connections" in message
    finally:
        server.stop()
        server.join()
