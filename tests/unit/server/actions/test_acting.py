"""Retry and revoke of single jobs, over a real store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice_agent.server.actions.acting import Senders, SentRetry
from sluice_agent.server.actions.broker import RejectedError, StoredCall, UnconfirmedError
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.record.ids import job_uuid
from tests.unit.server.actions.conftest import WHOLE, Shop
from tests.unit.server.events import CONNECTION, job_event


def retry(shop: Shop, uuid: bytes, *, again: bool = False) -> SentRetry:
    """Retry a job as an operator."""
    with Senders() as senders:
        return shop.actions.retry(uuid, "key 1", senders, again=again)


def refusal(shop: Shop, uuid: bytes, **options: Any) -> tuple[int, str]:
    """Return the status and the message with which a retry is refused."""
    with pytest.raises(RefusedError) as refused:
        retry(shop, uuid, **options)
    return refused.value.status, refused.value.message


def test_a_retry_is_a_new_job_and_both_are_linked(shop: Shop) -> None:
    """Nobody would find the new run of a job that failed, or the attempts of both would be mixed."""
    uuid = shop.add_job()
    before = shop.record(uuid)
    frames: list[str] = []
    shop.store.subscribe(lambda committed: frames.extend(frame.data for part in committed for frame in part.frames))
    sent = retry(shop, uuid)
    assert [json.loads(frame)["state"] for frame in frames] == ["queued"]  # the old job does not change
    [(task_id, message)] = shop.broker.sent
    assert task_id == sent.task_id
    assert (message.name, message.args, message.kwargs, message.queue) == (
        "app.tasks.send_email",
        [1],
        {"a": "b"},
        "emails",
    )
    after = shop.record(uuid)
    assert after["extensions"].pop("retriedAs") == task_id
    assert after == before
    new = shop.record(job_uuid(CONNECTION, task_id))
    assert (new["state"], new["name"], new["queue"], new["args"]) == ("queued", "app.tasks.send_email", "emails", [1])
    assert new["extensions"]["retryOf"] == "job-1"
    assert new["extensions"]["argsWhole"] is True
    [logged] = shop.log.latest(5)
    assert (logged.entry.who, logged.entry.action, logged.entry.subject) == ("key 1", "retry", before["id"])


def test_a_job_is_not_sent_again_while_its_retry_has_not_ended(shop: Shop) -> None:
    """Two clicks would send two e-mails."""
    uuid = shop.add_job()
    first = retry(shop, uuid).task_id
    status, message = refusal(shop, uuid)
    assert status == 400
    assert first in message
    assert "queued" in message
    second = retry(shop, uuid, again=True).task_id
    assert shop.record(uuid)["extensions"]["retriedAs"] == second
    shop.add(job_event("failed", 1200, externalId=second, attempt=1))
    assert retry(shop, uuid).task_id not in (first, second)


def test_a_retry_that_was_deleted_is_not_waited_for(shop: Shop) -> None:
    """The job could never be retried again."""
    retry(shop, shop.add_job(retriedAs="deleted"))
    assert len(shop.broker.sent) == 1


@pytest.mark.parametrize("state", ["active", "completed"])
def test_a_job_in_another_state_is_refused_by_its_name(shop: Shop, state: str) -> None:
    """A job that runs would run twice."""
    status, message = refusal(shop, shop.add_job(state=state))
    assert status == 400
    assert message.startswith(f"The job is {state}:")
    assert shop.broker.sent == []


def test_a_job_of_the_last_moment_of_the_calendar_is_linked(shop: Shop) -> None:
    """Its message would be sent, and neither the record nor the log of actions would show it."""
    event = job_event("failed", 1, queue="emails", extensions=WHOLE)
    shop.add(event | {"timestamp": "9999-12-31T23:59:59.999999999Z"})
    uuid = job_uuid(CONNECTION, "job-1")
    with Senders() as senders:
        sent = shop.actions.retry(uuid, "key 1", senders, again=False)
    assert shop.record(uuid)["extensions"]["retriedAs"] == sent.task_id
    assert [logged.entry.action for logged in shop.log.latest(1)] == ["retry"]


def test_a_broker_that_is_away_is_a_503_and_nothing_changes(shop: Shop) -> None:
    """The job would look retried, and never run."""
    uuid = shop.add_job()
    shop.broker.is_away = True
    status, message = refusal(shop, uuid)
    assert status == 503
    assert message.startswith("Nothing was sent: the broker can't be reached")
    assert "retriedAs" not in shop.record(uuid)["extensions"]


@pytest.mark.parametrize(
    ("error", "status"), [(UnconfirmedError("the connection failed"), 502), (RejectedError("no queue"), 400)]
)
def test_a_message_that_may_be_lost_is_not_sent_twice(shop: Shop, error: Exception, status: int) -> None:
    """A job could run twice, or nobody would look whether it runs."""
    uuid = shop.add_job()
    shop.broker.failures = [error]
    assert refusal(shop, uuid)[0] == status
    assert shop.broker.sent == []
    assert "retriedAs" not in shop.record(uuid)["extensions"]
    retry(shop, uuid)
    assert len(shop.broker.sent) == 1


def test_arguments_of_a_result_backend_do_not_reach_the_record(shop: Shop) -> None:
    """What the user's rules have hidden would be shown to every reader, once the job is retried."""
    uuid = shop.add_job(argsWhole=False, args=["[redacted]"])
    assert "SLUICE_CAPTURE_ARGS=1" in refusal(shop, uuid)[1]
    shop.broker.calls["job-1"] = StoredCall("app.tasks.send_email", ["secret"], {})
    sent = retry(shop, uuid)
    assert shop.broker.sent[0][1].args == ["secret"]
    assert shop.record(job_uuid(CONNECTION, sent.task_id))["args"] is None


def test_arguments_are_those_of_the_latest_publication(shop: Shop) -> None:
    """A replacement, whose arguments were not captured whole, would be sent with the mark of the task before it."""
    uuid = shop.add_job(state="active")
    replaced = {"args": ["…"], "kwargs": {}, "requeued": True}
    shop.add(job_event("queued", 2, externalId="job-1", queue="emails", extensions=replaced))
    shop.add(job_event("failed", 3, externalId="job-1", queue="emails", attempt=1))
    assert "not captured whole" in refusal(shop, uuid)[1]


def test_a_job_that_does_not_exist_is_a_404(shop: Shop) -> None:
    """A wrong id would be answered as if something had been done."""
    assert refusal(shop, bytes(16))[0] == 404


def test_revoke_asks_the_workers_and_leaves_the_state_to_them(shop: Shop) -> None:
    """A job that goes on would be shown as cancelled."""
    uuid = shop.add_job(state="active")
    subject = shop.actions.prepare_revoke(uuid)
    shop.actions.revoke([subject], "session 1")
    assert shop.broker.revoked == [["job-1"]]
    assert shop.record(uuid)["state"] == "active"
    with pytest.raises(RefusedError, match="The job is failed"):
        shop.actions.prepare_revoke(shop.add_job("job-2"))
