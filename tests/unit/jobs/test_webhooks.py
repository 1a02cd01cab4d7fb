"""The webhooks of runs: which are made, how they are signed, and what is done with them over the API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from sluice_agent.jobs.definitions.secrets import GRACE, signing_secrets
from sluice_agent.jobs.engine import moves
from sluice_agent.jobs.runs.runs import cancel_run, find_run
from sluice_agent.jobs.runs.transitions import Faulted
from sluice_agent.jobs.store.schema import webhook_delivery
from sluice_agent.jobs.webhooks.deliveries import attempts_of, find_delivery, send_webhook_again
from sluice_agent.jobs.webhooks.sending import webhook_sender
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.webhooks.ledger import _FIRST_DUE
from sluice_agent.server.webhooks.sender import Pace
from tests.support.ingest_server import Request
from tests.support.job_attempts import FAILURE, SUCCESS, Attempts
from tests.support.misbehaviour import status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.unit.jobs.conftest import Project

URL = "https://example.com/hook"


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    attempts = Attempts(tmp_path_factory.mktemp("jobs") / "sluice.db")
    yield attempts
    attempts.store.close()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.down()


def webhooks(attempts: Attempts, run: str) -> list[Any]:
    """Return the webhooks of a run."""
    with attempts.store.reading() as reader:
        query = select(webhook_delivery).where(webhook_delivery.c.subject == run)
        return list(reader.execute(query.order_by(webhook_delivery.c.created_at)))


def completed(attempts: Attempts, run: str) -> None:
    attempts.finish(run, attempts.begin(run), **SUCCESS)


def dead(attempts: Attempts, run: str) -> None:
    attempts.finish(run, attempts.begin(run), **FAILURE)


def timed_out(attempts: Attempts, run: str) -> None:
    attempts.finish(run, attempts.begin(run), error_class="timeout", error="too late")


def canceled(attempts: Attempts, run: str) -> None:
    with attempts.store.writing() as writer:
        cancel_run(writer, find_run(writer, run, None), attempts.store.moment)


def expired(attempts: Attempts, _run: str) -> None:
    attempts.pass_(61)
    with attempts.store.writing() as writer:
        moves.expire(writer, attempts.store.moment)


def crashed(attempts: Attempts, run: str) -> None:
    attempts.begin(run)
    attempts.pass_(61)
    with attempts.store.writing() as writer:
        moves.lose(writer, attempts.store.moment, attempts.store.moment, lambda: 0.5)


def faulted(attempts: Attempts, run: str) -> None:
    attempts.claim(run)
    attempts.offer(run, Faulted("the disk is full"))


@pytest.mark.parametrize(
    ("end", "status", "rest"),
    [
        (completed, "completed", {"result": {"sent": 1}}),
        (dead, "dead_letter", {"error": "500: no room"}),
        (timed_out, "timed_out", {"error": "too late"}),
        (canceled, "canceled", {}),
        (expired, "expired", {}),
        (crashed, "crashed", {"error": "the worker that executed the run is gone"}),
        (faulted, "system_failed", {"error": "the disk is full"}),
    ],
)
def test_each_end_has_its_webhook(
    attempts: Attempts, end: Callable[[Attempts, str], None], status: str, rest: dict[str, Any]
) -> None:
    """A receiver would wait for ever for a run that ended in another way than the two of which it is informed."""
    job = attempts.job(webhook_url=URL, max_attempts=1, run_ttl_secs=60)
    run = attempts.trigger(job)
    end(attempts, run)
    [webhook] = webhooks(attempts, run)
    assert attempts.row(run).status == status
    assert (webhook.kind, webhook.url, webhook.state) == (f"run.{status}", URL, "pending")
    own = {"run_id": run, "job_id": job.id, "project_id": "project", "status": status, "attempt": 1}
    timestamp = attempts.now.isoformat().replace("+00:00", "Z")
    assert json.loads(webhook.body) == own | rest | {"timestamp": timestamp}


def test_only_an_end_has_a_webhook(attempts: Attempts) -> None:
    """A receiver would take a run for failed that is tried again, or the same end for two."""
    job = attempts.job(webhook_url=URL)
    run, silent = attempts.trigger(job), attempts.trigger(attempts.job())
    execution = attempts.begin(run)
    attempts.finish(run, execution, **FAILURE)
    completed(attempts, silent)
    assert webhooks(attempts, run) == webhooks(attempts, silent) == []
    second = attempts.begin(run, 2)
    for _ in range(2):
        attempts.finish(run, second, 2, **SUCCESS)
    assert [webhook.kind for webhook in webhooks(attempts, run)] == ["run.completed"]


def test_a_change_that_is_rolled_back_sends_nothing(attempts: Attempts) -> None:
    """A receiver would be informed of an end that never was."""
    run = attempts.trigger(attempts.job(webhook_url=URL))
    with pytest.raises(KeyError), attempts.store.writing() as writer:  # noqa: PT012 - the transaction is the subject
        cancel_run(writer, find_run(writer, run, None), attempts.store.moment)
        raise KeyError
    assert attempts.row(run).status == "queued"
    assert webhooks(attempts, run) == []


def test_a_secret_that_is_replaced_signs_along_for_a_day(attempts: Attempts) -> None:
    """Receivers would refuse webhooks from the rotation of a secret until they have the new one."""
    job = attempts.job(webhook_secret="first")

    def secrets() -> tuple[str, ...]:
        with attempts.store.reading() as reader:
            return signing_secrets(reader, job.id, attempts.store.moment)

    attempts.pass_(1)
    attempts.update(job, timeout_secs=9)
    attempts.pass_(1)
    attempts.update(job, webhook_secret="second")
    attempts.pass_(1)
    attempts.update(job, timeout_secs=10)
    assert secrets() == ("second", "first")
    attempts.pass_(GRACE / 1_000_000 - 2)
    assert secrets() == ("second", "first")
    attempts.pass_(1)
    assert secrets() == ("second",)
    attempts.update(job, webhook_secret="third")
    assert secrets() == ("third", "second")
    attempts.update(job, webhook_secret="")
    assert secrets() == ()


def is_signed(request: Request, secret: str, index: int = 0) -> bool:
    """Return whether all signatures of a request with this index are by `secret`, computed without the package."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    timestamp, message_id = request.headers["webhook-timestamp"], request.headers["webhook-id"]
    standard = hmac.new(key, f"{message_id}.{timestamp}.".encode() + request.raw, hashlib.sha256).digest()
    older = hmac.new(secret.encode(), f"{timestamp}.".encode() + request.raw, hashlib.sha256).hexdigest()
    given = request.headers
    return (
        given["webhook-signature"].split(" ")[index] == f"v1,{base64.b64encode(standard).decode()}"
        and given["x-strait-timestamp"] == timestamp
        and given["x-strait-signature"].split(",")[index] == f"v1={older}"
        and given["x-webhook-signature"] == given["x-strait-signature"]
    )


def test_a_webhook_is_signed_by_both_secrets_and_repeated_with_its_id(
    attempts: Attempts, receiver: WebhookReceiver
) -> None:
    """A receiver could not check who sends, or would take the second attempt for another end."""
    standard = "whsec_" + base64.b64encode(b"k" * 24).decode()
    job = attempts.job(webhook_url=receiver.hook, webhook_secret="a plain one", max_attempts=1)
    attempts.pass_(1)
    attempts.update(job, webhook_secret=standard)
    run = attempts.trigger(job)
    receiver.script(status(503, {"Retry-After": "7"}))
    completed(attempts, run)
    sender = webhook_sender(attempts.store, allows_private=True, pace=Pace(poll=0.01))
    sender.start()
    try:
        wait_until(lambda: receiver.requests, 10, "it is not sent")
        [webhook] = webhooks(attempts, run)
        wait_until(lambda: _results(attempts, webhook.id) == [503], 10, "no attempt")
        assert webhooks(attempts, run)[0].due_at - attempts.store.moment >= 7_000_000
        attempts.pass_(8)
        wait_until(lambda: webhooks(attempts, run)[0].state == "delivered", 10, "it is not sent again")
    finally:
        sender.close()
    first, second = receiver.requests
    assert first.raw == second.raw
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == webhook.id
    for request in (first, second):
        assert is_signed(request, standard)
        assert is_signed(request, "a plain one", 1)
        assert request.headers["x-run-id"] == run


def _results(attempts: Attempts, delivery: str) -> list[int | str | None]:
    with attempts.store.reading() as reader:
        return [attempt.status or attempt.error for attempt in attempts_of(reader, delivery)]


def test_a_webhook_without_a_secret_has_an_id_and_no_signature(attempts: Attempts, receiver: WebhookReceiver) -> None:
    """A receiver would take an empty signature for one, or the second attempt for another end."""
    run = attempts.trigger(attempts.job(webhook_url=receiver.hook))
    completed(attempts, run)
    sender = webhook_sender(attempts.store, allows_private=True, pace=Pace(poll=0.01))
    sender.start()
    try:
        wait_until(lambda: webhooks(attempts, run)[0].state == "delivered", 10, "it is not sent")
    finally:
        sender.close()
    [request] = receiver.requests
    assert request.headers["webhook-id"] == webhooks(attempts, run)[0].id
    assert not [name for name in request.headers if "signature" in name.lower()]


def test_a_webhook_is_sent_again_to_the_url_of_now(attempts: Attempts, receiver: WebhookReceiver) -> None:
    """What a wrong URL has cost could not be made good."""
    job = attempts.job(webhook_url=receiver.hook)
    run = attempts.trigger(job)
    receiver.script(status(410))
    completed(attempts, run)
    sender = webhook_sender(attempts.store, allows_private=True, pace=Pace(poll=0.01))
    sender.start()
    try:
        wait_until(lambda: webhooks(attempts, run)[0].state == "gone", 10, "it goes on")
        [webhook] = webhooks(attempts, run)
        attempts.update(job, webhook_url=f"{receiver.hook}/new")
        with attempts.store.writing() as writer:
            row = find_delivery(writer, webhook.id, "project")
            assert (row.last_status, row.attempts) == (410, 1)
            with pytest.raises(RefusedError, match="not found"):
                find_delivery(writer, webhook.id, "another project")
            assert send_webhook_again(writer, row, attempts.store.moment).state == "pending"
        wait_until(lambda: webhooks(attempts, run)[0].state == "delivered", 10, "it is not sent")
    finally:
        sender.close()
    assert [request.path for request in receiver.requests] == ["/hook", "/hook/new"]
    assert set(receiver.ids()) == {webhook.id}
    assert _results(attempts, webhook.id) == [410, 200]


def test_webhooks_are_listed_and_sent_again_over_the_api(project: Project) -> None:
    """A user could not find out why a webhook did not arrive, nor do anything about it."""
    job = project.create(webhook_url="http://127.0.0.1:9/hook", webhook_secret="the secret of the job")
    other = project.create("other", webhook_url="http://127.0.0.1:9/hook")
    runs = [project.send("POST", f"/jobs/{of['id']}/trigger", {}, 201)["id"] for of in (job, other)]
    for run in runs:
        project.send("DELETE", f"/runs/{run}")
    found = project.send("GET", "/webhook-deliveries", params={"project_id": project.id})
    assert [delivery["run_id"] for delivery in found] == runs[::-1]
    delivery = found[1]
    assert {name: delivery[name] for name in ("event", "state", "attempts", "job_id", "url")} == {
        "event": "run.canceled", "state": "pending", "attempts": 0, "job_id": job["id"], "url": job["webhook_url"]
    }  # fmt: skip
    for parameters, expected in (
        ({"job_id": job["id"]}, [delivery]),
        ({"run_id": runs[0]}, [delivery]),
        ({"state": "delivered"}, []),
        ({"job_id": job["id"], "run_id": runs[1]}, []),
    ):
        assert project.send("GET", "/webhook-deliveries", params={"project_id": project.id} | parameters) == expected
    whole = project.send("GET", f"/webhook-deliveries/{delivery['id']}")
    assert whole["body"]["status"] == "canceled"
    assert whole["attempt_list"] == []
    assert "the secret" not in json.dumps(whole)
    sent = project.send("POST", f"/webhook-deliveries/{delivery['id']}/resend")
    assert (sent["state"], sent["id"]) == ("pending", delivery["id"])
    assert project.refused("GET", "/webhook-deliveries/none", status=404) == "Webhook delivery not found."
    assert "state" in project.refused("GET", f"/webhook-deliveries?project_id={project.id}&state=lost")
    project.send("DELETE", f"/jobs/{job['id']}", status=204)
    assert project.send("GET", f"/webhook-deliveries/{delivery['id']}", status=404)


def test_what_waits_for_one_url_is_not_read_for_the_others(attempts: Attempts) -> None:
    """With ten thousand webhooks to a receiver that is down, each other one would take as long as all of these."""
    query = _FIRST_DUE.params(now=1, kinds=["run.completed"])
    text = str(query.compile(dialect=attempts.store.engine.dialect, compile_kwargs={"literal_binds": True}))
    with attempts.store.reading() as reader:
        plan = [row[3] for row in reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert sum("webhook_delivery_by_url" in step for step in plan) == 3, plan
