"""The calls of an endpoint about its run: who may make them, and what they and a later answer change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from sluice_agent.jobs.engine import moves
from sluice_agent.jobs.routes.calls import CallsApp
from sluice_agent.jobs.runs.attempts import list_log
from sluice_agent.jobs.runs.call_requests import MOST_ANNOTATIONS
from sluice_agent.jobs.runs.calls import DEEPEST, MOST_LINES
from sluice_agent.jobs.runs.run_token import AttemptOfToken, run_token
from sluice_agent.jobs.runs.runs import cancel_run, find_run, replay_dead_letter
from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.store.schema import run_log
from tests.support.job_attempts import FAILURE, SUCCESS, Attempts


class Run:
    """A run under way, with the token that its endpoint has."""

    def __init__(self, attempts: Attempts, **settings: Any) -> None:
        self.attempts = attempts
        self.job = attempts.job(**settings)
        self.id = attempts.trigger(self.job, payload={"day": 1}, priority=4)
        self.begin(1)

    def begin(self, attempt: int) -> None:
        """Start the next attempt."""
        self.attempt, self.execution = attempt, self.attempts.name()
        spec = self.attempts.start(self.id, self.attempts.claim(self.id), self.execution, attempt)
        assert spec is not None
        self.token = spec.headers["X-Run-Token"]

    def finish(self, **outcome: Any) -> str | None:
        """Report the answer of the endpoint, as the worker does."""
        return self.attempts.finish(self.id, self.execution, self.attempt, **outcome)

    @property
    def row(self) -> Any:
        """The row of the run."""
        return self.attempts.row(self.id)


class Client:
    """Sends requests to an application in this process."""

    def __init__(self, app: CallsApp) -> None:
        self._transport = httpx.ASGITransport(app)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, and return its answer."""

        async def exchange() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://server") as client:
                return await client.request(method, path, **options)

        return asyncio.run(exchange())


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    attempts = Attempts(tmp_path_factory.mktemp("jobs") / "sluice.db")
    yield attempts
    attempts.store.close()


@pytest.fixture(scope="module")
def calls(attempts: Attempts) -> Iterator[Client]:
    """A client of the calls."""
    changes = GroupedChanges(attempts.store)
    yield Client(CallsApp(attempts.store, changes))
    changes.close()


def call(client: Client, run: Run, name: str, body: Any = None, status: int = 200, **headers: str) -> Any:
    """Make a call and return its answer, which has this status."""
    given = headers or {"Authorization": f"Bearer {run.token}"}
    response = client.send("POST", f"/runs/{run.id}/{name}", json={} if body is None else body, headers=given)
    assert response.status_code == status, response.text
    return response.json()


def test_a_result_by_a_call_ends_the_run_and_the_answer_changes_nothing(attempts: Attempts, calls: Client) -> None:
    """An endpoint that ends its run and then fails to answer would have it repeated; or its result be overwritten."""
    run = Run(attempts, webhook_url="https://example.com/hook")
    answer = call(calls, run, "complete", {"result": {"pages": 3, "price": 1.10}})
    assert answer == {"id": run.id, "status": "completed", "attempt": 1}
    assert attempts.beat({run.execution: run.id}) == [], "the request would be cut off while the endpoint answers"
    assert run.finish(**FAILURE, trace={"connect_ms": 2, "ttfb_ms": 5}) == "completed"
    row = run.row
    assert (row.status, row.result, row.error) == ("completed", '{"pages":3,"price":1.1}', None)
    [attempt] = attempts.attempts(run.id)
    assert (attempt.status_code, attempt.error_class, json.loads(attempt.trace)["ttfb_ms"]) == (500, None, 5)
    assert json.loads(row.execution_trace)["connect_ms"] == 2
    before = run.row
    assert call(calls, run, "complete", {"result": "another"})["status"] == "completed", "the answer was lost"
    assert run.finish(**SUCCESS) == "completed"
    assert run.row == before


def test_a_failure_by_a_call_ends_the_run_at_once(attempts: Attempts, calls: Client) -> None:
    """An endpoint that knows that nothing helps would get all attempts."""
    run = Run(attempts, max_attempts=3)
    call(calls, run, "fail", {"error": "no such customer"})
    assert call(calls, run, "fail", {"error": "again"})["status"] == "failed"
    assert run.finish(**SUCCESS) == "failed"
    assert (run.row.status, run.row.error, run.row.attempt) == ("failed", "no such customer", 1)
    [attempt] = attempts.attempts(run.id)
    assert (attempt.error_class, attempt.error) == ("reported", "no such customer")
    assert "is failed" in call(calls, run, "complete", status=409)["error"]["message"]


def test_a_heartbeat_keeps_a_run_whose_worker_is_gone(attempts: Attempts, calls: Client) -> None:
    """An endpoint that goes on without its worker would work for nothing, beside its second request."""
    run, silent = Run(attempts), Run(attempts)
    attempts.pass_(50)
    call(calls, run, "heartbeat")
    attempts.pass_(50)
    with attempts.store.writing() as writer:
        moves.lose(writer, attempts.store.moment - 60_000_000, attempts.store.moment, lambda: 0.5)
    assert (run.row.status, silent.row.status) == ("executing", "queued")
    call(calls, run, "complete")
    assert "is queued" in call(calls, silent, "complete", status=409)["error"]["message"]


def test_a_token_ends_with_its_attempt(attempts: Attempts, calls: Client) -> None:
    """An old request that is still under way could end the attempt after it."""
    run = Run(attempts, max_attempts=2)
    first = run.token
    run.finish(**FAILURE)
    assert "is queued" in call(calls, run, "heartbeat", status=409)["error"]["message"]
    run.begin(2)
    call(calls, run, "heartbeat")
    run.finish(**FAILURE)
    with attempts.store.writing() as writer:
        replay_dead_letter(writer, attempts.read_job(run.job.id), find_run(writer, run.id, None), attempts.store.moment)
    run.begin(1)
    call(calls, run, "heartbeat")
    call(calls, run, "complete", None, 409, Authorization=f"Bearer {first}")


def test_only_a_token_of_the_run_is_taken(attempts: Attempts, calls: Client) -> None:
    """Anybody could end the runs of others."""
    run, other = Run(attempts), Run(attempts)
    of, now, secret = AttemptOfToken(run.id, 1, 0), attempts.store.moment, attempts.store.token_secret
    head, body, signature = run.token.split(".")
    swapped = f"{head}.{other.token.split('.')[1]}.{signature}"
    forged = (
        "", "x", "a.b.c", "é.é.é", f"{head}.{body}.", f"{head}.{body}.{signature[:-1]}", swapped,
        f"eyJhbGciOiJub25lIn0.{body}.", run_token(b"another", of, now, None), run_token(secret, of, now, now),
    )  # fmt: skip
    for token in forged:
        response = calls.send("POST", f"/runs/{run.id}/complete", json={}, headers={b"X-Run-Token": token.encode()})
        assert response.status_code == 401, token
    assert calls.send("POST", f"/runs/{run.id}/complete", json={}).status_code == 401
    call(calls, run, "complete", None, 403, Authorization=f"Bearer {other.token}")
    assert run.row.status == "executing"
    call(calls, run, "heartbeat", **{"X-Run-Token": run.token})
    call(calls, run, "heartbeat", Authorization=f"bearer {run.token}")


def test_a_canceled_run_refuses_calls(attempts: Attempts, calls: Client) -> None:
    """An endpoint could not find out that its work is not wanted any more."""
    run = Run(attempts)
    with attempts.store.writing() as writer:
        cancel_run(writer, find_run(writer, run.id, None), attempts.store.moment)
    for name, body in (("heartbeat", {}), ("progress", {"percent": 1}), ("complete", {}), ("log", {"message": "m"})):
        assert "is canceled" in call(calls, run, name, body, 409)["error"]["message"]
    assert attempts.beat({run.execution: run.id}) == [run.execution]


def test_progress_and_log_and_metadata_are_kept(attempts: Attempts, calls: Client) -> None:
    """A user could not see how far a run is, nor what it has to say."""
    run = Run(attempts, default_run_metadata={"team": "a", "region": "eu"}, max_attempts=2)
    call(calls, run, "progress", {"percent": 12.5, "message": "näher"})
    call(calls, run, "progress", {"percent": 50})
    assert json.loads(run.row.progress) == {"percent": 50.0, "at": attempts.store.moment}
    call(calls, run, "log", {"message": "zwölf\nZeilen", "level": "warning", "data": {"n": [1, None, "\u0000"]}})
    call(calls, run, "annotate", {"annotations": {"team": "b", "file": "x.csv"}})
    assert json.loads(run.row.metadata) == {"team": "b", "region": "eu", "file": "x.csv"}
    run.finish(**FAILURE)
    assert run.row.progress is None, "the next attempt would begin with the progress of this one"
    run.begin(2)
    call(calls, run, "log", {"message": "again"})
    with attempts.store.reading() as reader:
        lines = list_log(reader, run.id, PageRequest(10)).items
    assert [(line.number, line.attempt, line.level, line.message, line.data) for line in lines] == [
        (2, 2, "info", "again", None),
        (1, 1, "warning", "zwölf\nZeilen", '{"n": [1,null,"\\u0000"]}'.replace(" ", "")),
    ]


def test_what_a_call_may_have_is_limited(attempts: Attempts, calls: Client) -> None:
    """An endpoint in a loop would fill the disk of the server."""
    run = Run(attempts)
    for name, body in (
        ("progress", {}), ("progress", {"percent": 101}), ("progress", {"percent": -1}), ("progress", {"percent": "5"}),
        ("progress", {"percent": 5, "message": "x" * 1025}), ("log", {"message": ""}), ("log", {"message": "x" * 8193}),
        ("log", {"message": "m", "level": "loud"}), ("log", {"message": "m", "data": "x" * 16_385}),
        ("log", {"message": "a\u0000"}), ("annotate", {"annotations": {}}), ("annotate", {"annotations": {"k": 1}}),
        ("annotate", {"annotations": {"k" * 129: "v"}}), ("annotate", {"annotations": {"k": "v" * 1025}}),
        ("annotate", {"annotations": {str(number): "" for number in range(MOST_ANNOTATIONS + 1)}}),
        ("complete", {"value": 1}), ("fail", {}), ("fail", {"error": "x" * 16_385}), ("heartbeat", {"at": 1}),
    ):  # fmt: skip
        assert call(calls, run, name, body, 400)["error"]["code"] == "validation_error", (name, body)
    call(calls, run, "complete", {"result": "x" * 1_048_576}, 413)
    call(calls, run, "annotate", {"annotations": {str(number): "" for number in range(MOST_ANNOTATIONS)}})
    assert "51" in call(calls, run, "annotate", {"annotations": {"more": ""}}, 400)["error"]["details"][0]
    with attempts.store.writing() as writer:
        line = {"run_id": run.id, "attempt": 1, "at": 1, "level": "info", "message": "m"}
        writer.execute(insert(run_log), [{**line, "number": number} for number in range(1, MOST_LINES)])
    call(calls, run, "log", {"message": "the last one"})
    assert "1000 lines" in call(calls, run, "log", {"message": "one more"}, 409)["error"]["message"]
    assert run.row.status == "executing"


def test_a_run_is_continued_once(attempts: Attempts, calls: Client) -> None:
    """A call whose answer was lost would double the work; or a run go on for ever."""
    run = Run(attempts)
    first = call(calls, run, "continue", {"payload": {"page": 2}}, 201)
    assert call(calls, run, "continue", {"payload": {"page": 3}})["id"] == first["id"]
    expected = {
        "continuation_of": run.id,
        "lineage_depth": 1,
        "priority": 4,
        "payload": {"page": 2},
        "status": "queued",
    }
    assert first.items() >= expected.items()
    assert run.row.status == "executing", "its own end is still to come"
    row = run.row
    for depth in range(2, DEEPEST + 2):
        last = run
        run = Run.__new__(Run)
        run.attempts, run.job, run.id = attempts, last.job, first["id"]
        run.begin(1)
        first = call(calls, run, "continue", None, 201 if depth <= DEEPEST else 409)
        if depth <= DEEPEST:
            assert (first["lineage_depth"], first["payload"]) == (depth, {"page": 2})
    assert row.lineage_depth == 0


def test_calls_describe_themselves(calls: Client) -> None:
    """A user could not make a client of them."""
    description = calls.send("GET", "/openapi.json").json()
    assert {path.rpartition("/")[2] for path in description["paths"]} == {
        "heartbeat", "progress", "log", "annotate", "complete", "fail", "continue"
    }  # fmt: skip
    for operations in description["paths"].values():
        assert {"401", "403", "404", "409"} <= operations["post"]["responses"].keys()
