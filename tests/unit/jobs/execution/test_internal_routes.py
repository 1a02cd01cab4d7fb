"""The internal routes of workers, over HTTP: who may use them, and what they answer. The client is the workers' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.jobs.attempts.records import Outcome
from sluice_agent.jobs.store.store import jobs_file
from sluice_agent.jobs.worker.server import JobsServer, RefusedError, ServerAwayError
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import LOOPBACK_ONLY, AccessOptions
from tests.support.job_attempts import Attempts
from tests.support.local_sluice import LocalSluice, local_sluice

EXECUTION = "e" * 32
SUCCEEDED = Outcome(status_code=200)


class Served:
    """A server, and the database of its jobs, in which the test claims runs."""

    def __init__(self, sluice: LocalSluice, attempts: Attempts) -> None:
        self.sluice = sluice
        self.attempts = attempts

    def worker(self, key: str | None = None) -> JobsServer:
        """Return a worker's client."""
        return JobsServer(f"{self.sluice.url}/api", key)

    def claimed(self) -> tuple[str, str]:
        """Return a run that is claimed, and its ticket."""
        run = self.attempts.trigger(self.attempts.job())
        return run, self.attempts.claim(run)

    def key(self, role: Role) -> Any:
        """Return a made key."""
        accounts = self.sluice.access.accounts
        connection, _ = accounts.open_connection("shop")
        return accounts.create_key(connection, role)


@contextmanager
def serving(directory: Path, options: AccessOptions = LOOPBACK_ONLY) -> Iterator[Served]:
    """Run a server whose database has been used before: it opens a new one with the first request to the API."""
    attempts = Attempts(directory / "sluice.db")
    with local_sluice(directory / "sluice.db", has_jobs=True, options=options) as sluice:
        yield Served(sluice, attempts)
    attempts.store.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on loopback."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that others can reach."""
    with serving(tmp_path_factory.mktemp("server"), AccessOptions(allowed_hosts=("sluice.example.com",))) as served:
        yield served


def test_a_worker_executes_an_attempt(served: Served) -> None:
    """No run would ever be executed."""
    run, ticket = served.claimed()
    worker = served.worker()
    spec = worker.start(run, 1, ticket, EXECUTION)
    assert spec is not None
    assert (spec.run_id, spec.body, spec.allows_private) == (run, "{}", True)
    assert worker.start(run, 1, ticket, "f" * 32) is None
    assert worker.beat({EXECUTION: run, "f" * 32: run}) == ["f" * 32]
    assert worker.finish(run, 1, EXECUTION, SUCCEEDED) == "completed"
    assert worker.finish(run, 1, EXECUTION, SUCCEEDED) == "completed"
    assert worker.finish(run, 1, "f" * 32, SUCCEEDED) is None


def test_off_loopback_a_worker_needs_a_key(exposed: Served) -> None:
    """Whoever reaches the server could ask for payloads with a ticket that they have seen."""
    run, ticket = exposed.claimed()
    viewer, ingest, operator = (exposed.key(role) for role in (Role.VIEWER, Role.INGEST, Role.OPERATOR))
    for key, status in ((None, 401), ("sk_unknown", 401), (viewer.secret, 403)):
        for call in (
            lambda worker: worker.start(run, 1, ticket, EXECUTION),
            lambda worker: worker.finish(run, 1, EXECUTION, SUCCEEDED),
            lambda worker: worker.beat({EXECUTION: run}),
        ):
            with pytest.raises(RefusedError, match=f"{status}: set SLUICE_API_KEY"):
                call(exposed.worker(key))
    assert exposed.worker(ingest.secret).start(run, 1, "wrong", EXECUTION) is None, "a key is no ticket"
    spec = exposed.worker(ingest.secret).start(run, 1, ticket, EXECUTION)
    assert spec is not None
    assert not spec.allows_private
    assert exposed.worker(operator.secret).finish(run, 1, EXECUTION, SUCCEEDED) == "completed"


def test_a_revoked_key_runs_nothing(exposed: Served) -> None:
    """A key that was stolen would go on to be of use."""
    key = exposed.key(Role.INGEST)
    exposed.sluice.access.accounts.revoke_key(key.id)
    run, ticket = exposed.claimed()
    with pytest.raises(RefusedError, match="401"):
        exposed.worker(key.secret).start(run, 1, ticket, EXECUTION)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("r/start", b"{"),
        ("r/start", b'{"attempt": 0, "ticket": "t", "execution": "eeeeeeeeeeeeeeee"}'),
        ("r/start", b'{"attempt": 1, "ticket": "t", "execution": "e"}'),
        ("r/finish", b'{"attempt": 1, "execution": "eeeeeeeeeeeeeeee"}'),
        ("r/finish", b'{"attempt": 1, "execution": "eeeeeeeeeeeeeeee", "outcome": {"status_code": 100000}}'),
        ("beat", b'{"executions": ["r"]}'),
        ("%00/start", b'{"attempt": 1, "ticket": "t", "execution": "eeeeeeeeeeeeeeee"}'),
    ],
)
def test_what_no_worker_sends_is_refused(served: Served, path: str, body: bytes) -> None:
    """A mistake in another program would be a failure of the server, or end a run."""
    response = httpx.post(f"{served.sluice.url}/api/internal/runs/{path}", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "VALIDATION_ERROR"


def test_the_largest_outcome_of_a_worker_is_taken(served: Served) -> None:
    """A run whose answer is large would never end, nor the outcomes after it be delivered."""
    run, ticket = served.claimed()
    worker = served.worker()
    worker.start(run, 1, ticket, EXECUTION)
    assert (
        worker.finish(run, 1, EXECUTION, Outcome(status_code=200, result='"' + '\\"' * 1_048_575 + '"')) == "completed"
    )


def test_a_worker_asks_again_while_the_database_is_away(served: Served) -> None:
    """An attempt would be dropped, or its outcome be lost, when the disk is gone for a minute."""
    run, ticket = served.claimed()
    file = jobs_file(Path(served.sluice.database))
    file.rename(file.with_suffix(".away"))
    with pytest.raises(ServerAwayError, match="503"):
        served.worker().start(run, 1, ticket, EXECUTION)
    file.with_suffix(".away").rename(file)
    assert served.worker().start(run, 1, ticket, EXECUTION) is not None


def test_the_routes_are_no_part_of_the_description(served: Served) -> None:
    """Clients would be made for routes that only workers can use."""
    for path in ("/api/openapi.json", "/v1/openapi.json"):
        assert "internal" not in served.sluice.client(path="").get(path).text
