"""What holds for all of ``/v1``: keys, errors, bodies, pages."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.jobs.conftest import Project

JOB = {"name": "Mail", "slug": "mail", "endpoint_url": "https://example.com/hook"}


def test_a_server_without_the_option_has_no_such_api(tmp_path: Path) -> None:
    """Users would meet an API whose runs no engine executes."""
    with local_sluice(tmp_path / "s.db") as server:
        assert server.client(path="/v1").get("/jobs").status_code == 404
    assert list(tmp_path.glob("*.jobs.*")) == []


def test_every_error_has_the_format_of_the_document(project: Project, server: LocalSluice) -> None:
    """A client of the jobs API could not read an error in the format of the other routes."""
    answers = [
        project.client.get("/nothing", headers={"X-Request-Id": "mine"}),
        project.client.put("/jobs"),
        project.client.get("/jobs"),
        project.client.get("/jobs/unknown"),
        project.client.post("/jobs", content=b"[" * 100_000),
        project.client.post("/jobs", content=b"x" * 1_048_577),
        project.client.post("/jobs", content=b"{}", headers={"Content-Encoding": "gzip"}),
        server.client({}, "/v1").get("/jobs"),
    ]
    codes = {answer.status_code: answer.json()["error"]["code"] for answer in answers}
    assert codes == {
        400: "validation_error",
        401: "unauthorized",
        404: "not_found",
        405: "method_not_allowed",
        413: "payload_too_large",
        415: "unsupported_media_type",
    }
    for answer in answers:
        assert answer.json().keys() == {"error", "request_id"}
        assert answer.json()["error"].keys() <= {"code", "message", "details"}
        assert answer.headers["X-API-Version"] == "v1"
        assert answer.headers["X-Request-Id"] == answer.json()["request_id"]
    assert answers[0].json()["request_id"] == "mine"
    assert project.client.put("/jobs/x").headers["Allow"] == "DELETE, GET, PATCH"
    assert project.client.options("/jobs/batch").headers["Allow"] == "POST"
    assert answers[-1].headers["WWW-Authenticate"].startswith("Bearer")


def test_a_failure_of_the_server_is_an_error_of_the_same_format(tmp_path: Path) -> None:
    """A client that reads JSON would fail at the answer, and the connection would close under its next request."""
    with local_sluice(tmp_path / "s.db", has_jobs=True) as server:
        client = server.client(path="/v1")
        client.post("/jobs", json={"project_id": "p", **JOB})
        (tmp_path / "s.jobs.db").rename(tmp_path / "away")
        answer = client.get("/jobs", params={"project_id": "p"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        (tmp_path / "away").rename(tmp_path / "s.jobs.db")
        assert len(client.get("/jobs", params={"project_id": "p"}).json()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON that can be used"),
        (b'{"name": NaN}', "NaN is no JSON"),
        (b'{"name": 1e999}', "too large"),
        (b'{"name": %s}' % (b"9" * 5000), "too large"),
        (b'{"name": "\\ud800"}', "half of a character"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b'{"name": "x", "nane": 1}', "nane: "),
        (b"[]", "not valid"),
        (b"7", "not valid"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_the_reason(project: Project, content: bytes, reason: str) -> None:
    """A user would search for a fault that the server knows, or the server would fail on the body."""
    assert reason in project.refused("POST", "/jobs", content=content)


def test_a_body_is_json_whatever_its_type_and_an_empty_one_is_an_object(project: Project) -> None:
    """curl, which sends another content type with -d, would get an error that does not name it."""
    job = project.create()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    changed = project.send("PATCH", f"/jobs/{job['id']}", content=b'{"name": "New"}', headers=headers)
    assert changed["name"] == "New"
    assert project.send("PATCH", f"/jobs/{job['id']}", content=b" ")["version"] == 2


def test_pages_follow_each_other_without_loss(project: Project) -> None:
    """A list that is longer than a page would lack jobs, or show some twice."""
    bodies = [{"project_id": project.id, **JOB, "slug": f"{number}"} for number in range(7)]
    project.send("POST", "/jobs/batch", bodies, 201)
    expected = [f"{number}" for number in reversed(range(7))]
    seen: list[str] = []
    link: str | None = f"/v1/jobs?project_id={project.id}&limit=3"
    while link is not None:
        answer = project.client.get(project.client.base_url.join(link))
        seen += [job["slug"] for job in answer.json()]
        assert ("X-Next-Cursor" in answer.headers) == ("next" in answer.links)
        link = answer.links.get("next", {}).get("url")
    assert seen == expected
    page = project.send("GET", "/jobs", params={"project_id": project.id, "limit": 4, "envelope": "true"})
    assert ([job["slug"] for job in page["data"]], page["has_more"]) == (expected[:4], True)
    rest = {"project_id": project.id, "cursor": page["next_cursor"], "envelope": "true"}
    page = project.send("GET", "/jobs", params=rest)
    assert ([job["slug"] for job in page["data"]], page["has_more"], "next_cursor" in page) == (
        expected[4:],
        False,
        False,
    )
    third = project.list()[2]["created_at"]
    assert [job["slug"] for job in project.list(cursor=third)] == expected[3:]


def test_limits_and_cursors_that_are_wrong_are_refused(project: Project) -> None:
    """A script with a wrong cursor would begin again at the first page, for ever."""
    assert len(project.list(limit=1_000)) == 0
    for parameters in ({"limit": 0}, {"limit": -1}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "eDp5"}):
        assert project.refused("GET", "/jobs", params={"project_id": project.id, **parameters})


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_has_one_project_and_the_rights_of_its_role(tmp_path: Path) -> None:
    """A key of one team could otherwise read or trigger the jobs of another, and a viewer's could change them."""
    options = AccessOptions("0.0.0.0", connection="shop", api_key="sk_ingest")
    with local_sluice(tmp_path / "s.db", options=options, has_jobs=True) as server:
        accounts = server.access.accounts

        def client_of(connection: str, role: Role) -> httpx.Client:
            key = accounts.create_key(accounts.open_connection(connection)[0], role)
            return server.client(bearer(key.secret), "/v1")

        operator, viewer = client_of("shop", Role.OPERATOR), client_of("shop", Role.VIEWER)
        other = client_of("bank", Role.OPERATOR)
        job = operator.post("/jobs", json={"project_id": "shop", **JOB}).json()
        assert job["created_by"].startswith("apikey:")
        path = f"/jobs/{job['id']}"
        assert [viewer.get(path).status_code, viewer.get("/jobs").json()] == [200, [job]]
        assert viewer.patch(path, json={"name": "New"}).status_code == 403
        assert operator.post("/jobs", json={"project_id": "bank", **JOB}).status_code == 403
        assert operator.get("/jobs", params={"project_id": "bank"}).status_code == 403
        assert [other.get(path).status_code, other.delete(path).status_code, other.get("/jobs").json()] == [
            404,
            404,
            [],
        ]
        assert other.post("/jobs/batch-disable", json={"ids": [job["id"]]}).json() == {"updated": 0}
        assert other.get(f"{path}/versions/{job['version_id']}").status_code == 404
        assert operator.get(path).json() == job
        for secret, status in (("sk_ingest", 403), ("sk_unknown", 401)):
            assert server.client(bearer(secret), "/v1").get(path).status_code == status
        private = {"project_id": "shop", **JOB, "slug": "private", "endpoint_url": "http://10.0.0.1/"}
        answer = operator.post("/jobs", json=private)
        assert (answer.status_code, answer.json()["error"]["details"]) == (
            400,
            ["endpoint_url: 10.0.0.1 is a private address"],
        )


def test_private_endpoints_are_allowed_by_an_option(tmp_path: Path) -> None:
    """A server in a cluster could not send requests to the services beside it; or anybody to the cloud's metadata."""
    options, engine = AccessOptions("0.0.0.0"), EngineOptions(allows_private=True, state_dir=tmp_path)
    with local_sluice(tmp_path / "s.db", options=options, has_jobs=True, engine=engine) as server:
        key = server.access.accounts.create_key(server.access.accounts.open_connection("shop")[0], Role.OPERATOR)
        client = server.client(bearer(key.secret), "/v1")
        for number, (host, status) in enumerate({"10.0.0.1": 201, "billing": 201, "169.254.169.254": 400}.items()):
            job = {"project_id": "shop", **JOB, "slug": f"{number}", "endpoint_url": f"http://{host}/"}
            assert client.post("/jobs", json=job).status_code == status


def test_an_ingest_key_may_nothing_also_on_loopback(server: LocalSluice) -> None:
    """The key that all workers have would otherwise be a key for all jobs."""
    accounts = server.access.accounts
    key = accounts.create_key(accounts.open_connection("workers")[0], Role.INGEST)
    assert server.client(bearer(key.secret), "/v1").get("/jobs").status_code == 403
    accounts.revoke_key(key.id)
    assert server.client(bearer(key.secret), "/v1").get("/jobs").status_code == 401
