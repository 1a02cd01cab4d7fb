"""The start of attempts: who may, how often, and what a worker is told to send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.jobs.environments import Environments
from sluice_agent.jobs.runs.transitions import Canceled, Released
from sluice_agent.jobs.store.schema import job as job_table
from tests.support.job_attempts import Attempts


def test_a_ticket_starts_an_attempt_once(attempts: Attempts) -> None:
    """A message that comes twice would send two requests."""
    run = attempts.trigger(attempts.job())
    ticket = attempts.claim(run)
    assert attempts.start(run, ticket, "e" * 32) is not None
    assert attempts.start(run, ticket, "f" * 32) is None
    assert attempts.row(run).status == "executing"
    assert attempts.row(run).execution == "e" * 32
    assert [(row.attempt, row.retries, row.finished_at) for row in attempts.attempts(run)] == [(1, 0, None)]


def test_a_start_that_is_repeated_gets_the_same_answer(attempts: Attempts) -> None:
    """A start whose answer was lost would cost the run an attempt; or another signature make the endpoint refuse it."""
    job = attempts.job(webhook_secret="a secret of the job", version_policy="latest")
    run = attempts.trigger(job)
    ticket = attempts.claim(run)
    first = attempts.start(run, ticket, "e" * 32)
    attempts.pass_(5)
    attempts.update(job, timeout_secs=7, endpoint_url="https://example.com/new")
    assert attempts.start(run, ticket, "e" * 32) == first
    assert len(attempts.attempts(run)) == 1


def test_only_a_ticket_of_the_run_and_the_attempt_starts_it(attempts: Attempts) -> None:
    """Who knows the id of a run could have its payload and its secrets, or end it."""
    job = attempts.job()
    run, other = attempts.trigger(job), attempts.trigger(job)
    ticket, foreign = attempts.claim(run), attempts.claim(other)
    for wrong in ("", foreign, ticket[:-1]):
        assert attempts.start(run, wrong, "e" * 32) is None
    assert attempts.start(run, ticket, "e" * 32, attempt=2) is None
    assert attempts.start("no-such-run", ticket, "e" * 32) is None
    assert attempts.row(run).status == "dequeued"
    assert attempts.start(run, ticket, "e" * 32) is not None


def test_any_ticket_of_the_attempt_starts_it(attempts: Attempts) -> None:
    """A run whose publish was not confirmed would wait for its second message, behind all others."""
    run = attempts.trigger(attempts.job())
    first = attempts.claim(run)
    attempts.offer(run, Released(attempts.store.moment))
    assert attempts.start(run, first, "e" * 32) is None, "it is queued: a claim decides when it may be sent"
    attempts.claim(run)
    assert attempts.start(run, first, "e" * 32) is not None


def test_a_ticket_ends_with_its_attempt(attempts: Attempts) -> None:
    """An old message would start an attempt before its time, and beyond the job's limits."""
    run = attempts.trigger(attempts.job())
    ticket = attempts.claim(run)
    assert attempts.start(run, ticket, "e" * 32) is not None
    attempts.lose(run)
    attempts.claim(run)
    for attempt in (1, 2):
        assert attempts.start(run, ticket, "f" * 32, attempt) is None


def test_a_run_that_is_not_wanted_does_not_start(attempts: Attempts) -> None:
    """A canceled run would be sent; a job that was just disabled would go on."""
    job = attempts.job()
    canceled, held = attempts.trigger(job), attempts.trigger(job)
    tickets = [attempts.claim(run) for run in (canceled, held)]
    attempts.offer(canceled, Canceled())
    attempts.switch(job, enabled=False)
    assert [attempts.start(run, ticket, "e" * 32) for run, ticket in zip((canceled, held), tickets, strict=True)] == [
        None,
        None,
    ]
    assert attempts.row(canceled).status == "canceled"
    assert attempts.row(held).status == "queued"
    attempts.switch(job, enabled=True)
    assert attempts.begin(held)


def test_a_run_whose_job_is_gone_ends(attempts: Attempts) -> None:
    """A run that nothing can execute would be claimed for ever."""
    job = attempts.job()
    run = attempts.trigger(job)
    ticket = attempts.claim(run)
    with attempts.store.writing() as writer:
        writer.execute(job_table.delete().where(job_table.c.id == job.id))
    assert attempts.start(run, ticket, "e" * 32) is None
    row = attempts.row(run)
    assert (row.status, row.error) == ("system_failed", "the job of the run is gone")


def test_the_endpoint_gets_the_payload_and_who_asks(attempts: Attempts) -> None:
    """An endpoint could not tell a repeated attempt from another run, nor who has sent it."""
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    job = attempts.job(webhook_secret=secret, fallback_endpoint_url="https://example.com/b", timeout_secs=600)
    run = attempts.trigger(job, payload={"b": 1, "a": "ü"})
    spec = attempts.start(run, attempts.claim(run), "e" * 32)
    assert spec is not None
    assert (spec.url, spec.fallback_url) == (job.settings.endpoint_url, "https://example.com/b")
    assert (spec.timeout_secs, spec.max_attempts, spec.allows_private) == (600, 3, False)
    assert spec.body == '{"a":"ü","b":1}'
    headers = spec.headers
    assert headers["Content-Type"] == "application/json"
    assert (headers["X-Run-ID"], headers["X-Job-ID"], headers["X-Attempt"]) == (run, job.id, "1")
    now = round(attempts.now.timestamp())
    signed = hmac.new(secret.encode(), f"{now}.{spec.body}".encode(), hashlib.sha256).hexdigest()
    assert (headers["X-Strait-Timestamp"], headers["X-Strait-Signature"]) == (str(now), f"v1={signed}")
    standard = hmac.new(b"k" * 24, f"{run}-1.{now}.{spec.body}".encode(), hashlib.sha256).digest()
    assert headers["webhook-id"] == f"{run}-1"
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(standard).decode()}"
    assert claims_of(headers["X-Run-Token"]) == {"sub": run, "attempt": 1, "retries": 0, "iat": now, "exp": now + 660}
    assert secret not in repr(spec)
    assert secret not in spec.model_dump_json()


def test_without_a_secret_nothing_is_signed(attempts: Attempts) -> None:
    """A receiver would check a signature of an empty secret, which anybody can make."""
    run = attempts.trigger(attempts.job())
    spec = attempts.start(run, attempts.claim(run), "e" * 32)
    assert spec is not None
    assert not [name for name in spec.headers if "signature" in name.lower()]


def claims_of(token: str) -> Any:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize(
    ("policy", "later", "started"),
    [
        ("pin", [True, True], 1),
        ("latest", [False, False], 3),
        ("minor", [True, True], 3),
        ("minor", [True, False], 2),
        ("minor", [False, True], 1),
    ],
)
def test_a_run_starts_by_the_version_that_the_policy_says(
    attempts: Attempts, policy: str, later: list[bool], started: int
) -> None:
    """An old run would be sent to a new endpoint that does not understand it, or never to one that was mended."""
    job = attempts.job(version_policy=policy, timeout_secs=1)
    run = attempts.trigger(job)
    for number, compatible in enumerate(later, 2):
        job = attempts.update(job, timeout_secs=number, backwards_compatible=compatible)
    spec = attempts.start(run, attempts.claim(run), "e" * 32)
    assert spec is not None
    assert spec.timeout_secs == started
    assert attempts.row(run).job_version == started


@pytest.fixture
def staging(attempts: Attempts, tmp_path: Path) -> Iterator[Path]:
    """The file of environments of the server, which has one."""
    file = tmp_path / "environments.toml"
    file.write_text('[staging.variables]\nBASE_URL = "http://10.0.0.1"\n[staging.secrets]\nKey = "KEY"\n')
    clock = itertools.count()
    attempts.environments = Environments(file, {"KEY": "a key of staging"}, lambda: next(clock))
    yield file
    attempts.environments = None


def test_an_environment_replaces_the_address_and_adds_its_secrets(attempts: Attempts, staging: Path) -> None:
    """A run of staging would go to production."""
    other = "https://other.example.com/"
    job = attempts.job(environment_id="staging", endpoint_url="https://example.com/a?b=c", fallback_endpoint_url=other)
    run = attempts.trigger(job)
    spec = attempts.start(run, attempts.claim(run), "e" * 32)
    assert spec is not None
    assert (spec.url, spec.fallback_url, spec.secrets) == ("http://10.0.0.1/a?b=c", other, {"KEY": "a key of staging"})
    assert "a key" not in repr(spec)
    assert "a key" not in str(spec.headers)


def test_a_run_whose_environment_is_gone_ends(attempts: Attempts, staging: Path) -> None:
    """It would be sent to the address of another environment, or wait for ever; and its reason be known to nobody."""
    job = attempts.job(environment_id="staging")
    runs = [attempts.trigger(job), attempts.trigger(job)]
    ticket = attempts.claim(runs[0])
    assert attempts.start(runs[0], ticket, "e" * 32) is not None
    staging.write_text("[production]\n")
    assert attempts.start(runs[0], ticket, "e" * 32) is None, "the answer to the first start was lost"
    assert attempts.start(runs[1], attempts.claim(runs[1]), "f" * 32) is None
    for run in runs:
        row = attempts.row(run)
        assert row.status == "system_failed"
        assert "(serve --jobs-environments) has no 'staging' for jobs of the project project" in row.error
        assert [one.error_class for one in attempts.attempts(run)] == ["system"]
