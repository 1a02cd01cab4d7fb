"""A server with the jobs API, its clock, and a project for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from tests.support.local_sluice import LocalSluice, local_sluice

START = datetime(2026, 2, 27, 12, tzinfo=timezone.utc)  # a Friday


class Clock:
    """A clock that goes on by a millisecond with each look, so that no two things happen at once."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_(self, seconds: float) -> None:
        """Move the clock on."""
        self.now += timedelta(seconds=seconds)


@dataclass
class Project:
    """A client of the jobs API, and the id of a project that nothing else uses."""

    client: httpx.Client
    clock: Clock
    id: str = field(default_factory=lambda: f"project-{uuid.uuid4()}")

    def create(self, slug: str = "mail", status: int = 201, **fields: Any) -> dict[str, Any]:
        """Create a job and return the body of the answer, which has this status."""
        job = {"project_id": self.id, "name": "Mail", "slug": slug, "endpoint_url": "http://127.0.0.1:9/hook"}
        return self.send("POST", "/jobs", job | fields, status)

    def send(self, method: str, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """Send a request and return the body of the answer, which has this status; None if it has no body."""
        response = self.client.request(method, path, **({} if body is None else {"json": body}), **options)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def refused(self, method: str, path: str, body: Any = None, status: int = 400, **options: Any) -> str:
        """Send a request that is refused with this status, and return what is wrong with it, as one text."""
        error = self.send(method, path, body, status, **options)["error"]
        return "; ".join([error["message"], *error.get("details", [])])

    def list(self, **parameters: Any) -> list[dict[str, Any]]:
        """Return the project's jobs."""
        jobs: list[dict[str, Any]] = self.send("GET", "/jobs", params={"project_id": self.id} | parameters)
        return jobs


@pytest.fixture(scope="module")
def clock() -> Clock:
    """The clock of the server."""
    return Clock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[LocalSluice]:
    """A server on loopback with the jobs API."""
    with local_sluice(tmp_path_factory.mktemp("server") / "sluice.db", has_jobs=True, now=clock) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    """A client of it with any key."""
    return server.client(path="/v1")


@pytest.fixture
def project(client: httpx.Client, clock: Clock) -> Project:
    """A project of one test."""
    return Project(client, clock)
