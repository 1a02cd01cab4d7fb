"""Celery tasks as jobs: what is published, and what their events, or the lack of them, do to their runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.runs.runs import cancel_run, find_run
from sluice_agent.jobs.runs.transitions import Replayed
from sluice_agent.jobs.task_events.notes import note_of
from sluice_agent.server.actions.broker import RejectedError, UnconfirmedError
from sluice_agent.server.store.batch import FRAMES_KEPT
from sluice_agent.server.store.retention import Keep
from sluice_agent.server.timestamps import timestamp_of, to_moment
from tests.support.task_jobs import CONNECTION, WORKER, TaskJobs


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[TaskJobs]:
    """Databases of a test, and a broker that it plays."""
    shop = TaskJobs(tmp_path / "sluice.db")
    yield shop
    shop.close()


def cancel(shop: TaskJobs, run_id: str) -> None:
    with shop.store.writing() as writer:
        cancel_run(writer, find_run(writer, run_id, None, locks=True), shop.store.moment)


def test_a_message_calls_the_task_as_the_job_and_the_payload_have_it(shop: TaskJobs) -> None:
    """A task would get other arguments than were sent, run without a limit, or in a queue that nobody takes from."""
    own = shop.run_of(shop.task_job(timeout_secs=40), payload={"to": "ä", "n": 1.5}, priority=10, ttl_secs=60)
    positional = shop.run_of(shop.task_job(query="?queue=mail&args=1"), payload={"args": [1, None]})
    (first_id, first), (second_id, second) = shop.broker.sent
    assert (first.name, first.args, first.kwargs) == ("shop.mail", [], {"to": "ä", "n": 1.5})
    assert (first.queue, first.priority, first.time_limit) == ("queue-of-shop.mail", 9, 40)
    assert first.expires == shop.now + timedelta(seconds=60)
    assert first.headers == {"sluice_run_id": own, "sluice_run_attempt": 1}
    assert (second.args, second.kwargs, second.queue) == ([1, None], {}, "mail")
    assert second.expires == shop.now + timedelta(days=1)
    assert [shop.row(run).task_id for run in (own, positional)] == [first_id, second_id]


def test_a_named_limit_holds_for_tasks_and_for_requests_together(shop: TaskJobs) -> None:
    """An API would get more calls than it allows, as its tasks would not count, or would all be sent at once."""
    limits = [{"name": "mail", "max": 2, "window_secs": 60}]
    tasks, requests = shop.task_job(rate_limit_keys=limits), shop.job(rate_limit_keys=limits)
    runs = []
    for job in (tasks, tasks, tasks, requests):
        shop.pass_(0.001)  # runs of one moment have no order
        runs.append(shop.trigger(job))
    first, second, third, request = runs
    shop.work()
    assert [shop.status(run) for run in (first, second, third, request)] == [*["dequeued"] * 2, *["queued"] * 2]
    shop.pass_(300)
    shop.work()
    assert len(shop.broker.sent) == 2, "messages that wait have their places, however long"
    shop.begin_task(first)
    shop.pass_(30)
    shop.begin_task(second)
    shop.report(first, "completed", completedAt=timestamp_of(shop.store.moment))
    shop.work()
    assert (shop.status(first), shop.status(third)) == ("completed", "queued"), "a start counts after its end"
    shop.pass_(29)
    shop.work()
    assert shop.status(third) == "queued"
    shop.pass_(1.1)
    shop.work()
    assert (shop.status(third), len(shop.broker.sent), shop.status(request)) == ("dequeued", 3, "queued")


def test_a_task_of_an_hour_in_its_queue_is_sent_once(shop: TaskJobs) -> None:
    """A backlog would run each of its tasks as often as the server looks at them."""
    job = shop.task_job()
    runs = [shop.trigger(job, payload={"n": number}) for number in range(50)]
    for _ in range(120):
        shop.pass_(30)
        shop.work()
    shop.restart()
    shop.work()
    assert len(shop.broker.sent) == 50
    assert len({task_id for task_id, _ in shop.broker.sent}) == 50
    assert {shop.status(run) for run in runs} == {"dequeued"}
    for run in runs:
        shop.report(run, "active", startedAt=timestamp_of(shop.store.moment))
        shop.report(run, "completed", completedAt=timestamp_of(shop.store.moment))
    shop.work()
    assert {shop.status(run) for run in runs} == {"completed"}
    assert len(shop.broker.sent) == 50
    assert shop.broker.revoked == []


def test_the_run_has_what_the_events_report(shop: TaskJobs) -> None:
    """A run would show no result, or times that are not those of its task."""
    run = shop.run_of(shop.task_job())
    assert "no event of this task has arrived" in str(note_of(shop.row(run)))
    shop.pass_(10)
    shop.report(run, "queued")
    shop.work()
    assert (shop.status(run), note_of(shop.row(run))) == ("dequeued", None)
    shop.pass_(10)
    shop.begin_task(run)
    started = shop.store.moment
    assert (shop.status(run), shop.row(run).started_at) == ("executing", started)
    shop.pass_(5)
    ended = shop.store.moment
    shop.report(run, "completed", completedAt=timestamp_of(ended), extensions={"result": {"sent": 1}})
    shop.pass_(3)
    shop.work()
    row = shop.row(run)
    assert (row.status, json.loads(row.result), row.finished_at, note_of(row)) == (
        "completed",
        {"sent": 1},
        ended,
        None,
    )
    trace = json.loads(row.execution_trace)
    assert (trace["queue_wait_ms"], trace["total_ms"]) == (20_000, 5_000)
    (attempt,) = shop.attempts(run)
    assert (attempt.started_at, attempt.finished_at, attempt.error_class) == (started, ended, None)


def test_a_result_that_was_not_captured_is_explained(shop: TaskJobs) -> None:
    """A user would search for a result that no setting has ever captured."""
    run = shop.run_of(shop.task_job())
    shop.report(run, "completed")
    shop.work()
    assert shop.row(run).result is None
    assert "SLUICE_CAPTURE_ARGS=1" in str(note_of(shop.row(run)))


def test_a_failure_is_final_unless_more_attempts_are_set(shop: TaskJobs) -> None:
    """A task that sends mail would send it again without anybody having asked for it."""
    single, double = shop.run_of(shop.task_job()), shop.run_of(shop.task_job(max_attempts=2, retry_strategy="fixed"))
    first_ids = [shop.row(run).task_id for run in (single, double)]
    for run in (single, double):
        shop.report(run, "failed", error="ValueError: no \x00 room")
    shop.work()
    row = shop.row(single)
    assert (row.status, row.attempt) == ("dead_letter", 1)
    assert row.error.startswith("ValueError: no")
    assert (shop.status(double), shop.row(double).attempt, shop.row(double).task_id) == ("queued", 2, None)
    shop.pass_(2)
    shop.work()
    assert shop.status(double) == "dequeued"
    assert shop.row(double).task_id not in first_ids
    shop.report(double, "failed", task_id=first_ids[1], error="again")
    shop.work()
    assert shop.status(double) == "dequeued", "the first attempt has ended"
    shop.report(double, "failed", error="TimeLimitExceeded: TimeLimitExceeded(300,)")
    shop.work()
    assert shop.status(double) == "timed_out"
    assert [row.error_class for row in shop.attempts(double)] == ["task", "timeout"]
    shop.offer(single, Replayed(is_met=True))
    shop.work()
    assert shop.row(single).task_id not in (None, *first_ids)


def test_celerys_own_retries_are_one_attempt(shop: TaskJobs) -> None:
    """A task that retries itself each hour would be taken for one that hangs."""
    run = shop.run_of(shop.task_job(timeout_secs=60))
    shop.begin_task(run)
    for attempt in (1, 2, 3):
        eta = shop.now + timedelta(hours=1)
        shop.report(run, "retrying", attempt=attempt, error="busy", extensions={"eta": eta.isoformat()})
        for _ in range(12):
            shop.pass_(300)
            shop.work()
            assert shop.status(run) == "executing"
        shop.report(run, "active", attempt=attempt + 1, startedAt=timestamp_of(shop.store.moment))
        shop.work()
    shop.report(run, "completed", attempt=4)
    shop.work()
    assert (shop.status(run), shop.row(run).attempt, len(shop.broker.sent)) == ("completed", 1, 1)


def test_a_message_of_which_nothing_is_known_is_never_sent_again(shop: TaskJobs) -> None:
    """A connection that breaks while a message is sent would let a task run twice."""
    shop.broker.failures.append(UnconfirmedError("the connection failed"))
    arrived = shop.run_of(shop.task_job())
    shop.broker.failures.append(UnconfirmedError("the connection failed"))
    lost = shop.run_of(shop.task_job(), ttl_secs=600)
    assert [shop.row(run).published_at for run in (arrived, lost)] == [None, None]
    assert "not confirmed" in str(note_of(shop.row(lost)))
    shop.restart()
    for _ in range(9):
        shop.pass_(60)
        shop.work()
    assert shop.broker.sent == []
    assert {shop.status(run) for run in (arrived, lost)} == {"dequeued"}
    shop.begin_task(arrived)
    assert shop.row(arrived).published_at is not None
    shop.pass_(100)
    shop.work()
    row = shop.row(lost)
    assert row.status == "system_failed"
    assert "not known whether the broker has the message" in row.error
    assert shop.broker.sent == []
    assert row.task_id in shop.broker.revoked


def test_a_process_that_ends_before_its_messages_sends_none_again(shop: TaskJobs) -> None:
    """A server that is killed between claim and publish can't know what it has sent: tasks would run twice."""
    run = shop.trigger(shop.task_job())
    send, shop.tasks.send = shop.tasks.send, lambda *_: True  # type: ignore[method-assign] # it is killed here
    shop.claim_and_send()
    shop.tasks.send = send  # type: ignore[method-assign]
    shop.restart()
    for _ in range(3):
        shop.pass_(600)
        shop.work()
    assert (shop.status(run), shop.broker.sent) == ("dequeued", [])
    shop.report(run, "completed")
    shop.work()
    assert shop.status(run) == "completed"


def test_what_was_certainly_not_sent_is_sent_later_under_the_same_id(shop: TaskJobs) -> None:
    """A broker that is away, or a queue that is not there yet, would fail a run; a second id would hide a double."""
    shop.broker.is_away = True
    away = shop.run_of(shop.task_job())
    assert (shop.status(away), shop.row(away).attempt) == ("queued", 1)
    assert "the broker can't be reached (refused)" in shop.why_it_waits(away)
    shop.broker.is_away = False
    shop.broker.failures.append(RejectedError("the broker has no queue mail"))
    shop.work()
    assert (shop.status(away), shop.row(away).error) == ("queued", "the broker has no queue mail")
    shop.work()
    assert shop.broker.sent == []
    shop.pass_(10)
    shop.work()
    ((task_id, _),) = shop.broker.sent
    assert shop.row(away).task_id == task_id
    assert shop.why_it_waits(shop.trigger(shop.task_job())) == "", "the broker is there again"


def test_a_task_without_events_ends_at_its_deadline(shop: TaskJobs) -> None:
    """A run would wait for ever where no agent is; and nobody would know why."""
    default, limited = shop.run_of(shop.task_job()), shop.run_of(shop.task_job(run_ttl_secs=600))
    shop.pass_(610)
    shop.work()
    assert shop.status(limited) == "dequeued", "an event may be under way"
    shop.pass_(25)
    shop.work()
    row = shop.row(limited)
    assert row.status == "expired"
    assert "is the agent installed" in row.error
    assert shop.broker.revoked == [row.task_id]
    assert shop.status(default) == "dequeued"
    shop.pass_(86_400)
    shop.work()
    assert shop.status(default) == "expired"


def test_a_task_that_does_not_end_is_timed_out_and_revoked(shop: TaskJobs) -> None:
    """A thread that hangs, which Celery can't stop, would keep its run `executing` for ever."""
    run = shop.run_of(shop.task_job(timeout_secs=100))
    shop.begin_task(run)
    shop.pass_(120)
    shop.work()
    assert shop.status(run) == "executing"
    shop.pass_(11)
    shop.work()
    assert shop.status(run) == "timed_out"
    assert shop.broker.revoked == [shop.row(run).task_id]
    shop.report(run, "completed")
    shop.work()
    assert shop.status(run) == "timed_out", "it had ended"


@pytest.mark.parametrize(
    ("extensions", "started", "status"),
    [
        ({"expired": True}, False, "expired"),
        ({"expired": True}, True, "dead_letter"),
        ({"terminated": True}, True, "canceled"),
        ({}, False, "canceled"),
        ({"reason": "cut off by a cold shutdown"}, True, "crashed"),
        ({"reason": "cut off by a cold shutdown"}, False, "crashed"),
    ],
)
def test_a_cancelled_task_ends_its_run(
    shop: TaskJobs, extensions: dict[str, object], started: bool, status: str
) -> None:
    """A task that a worker has discarded, or was stopped with it, would be shown as one that still runs."""
    run = shop.run_of(shop.task_job())
    if started:
        shop.begin_task(run)
    shop.report(run, "cancelled", extensions=extensions)
    shop.work()
    assert shop.status(run) == status


def test_a_canceled_run_is_revoked_when_the_broker_is_there(shop: TaskJobs) -> None:
    """A task would run although its run was canceled, as the broker was away for a second."""
    waiting, executing, queued = (shop.run_of(shop.task_job()) for _ in range(3))
    shop.begin_task(executing)
    unsent = shop.trigger(shop.task_job())
    shop.broker.is_away = True
    for run in (waiting, executing, unsent):
        cancel(shop, run)
    shop.work()
    assert shop.broker.revoked == []
    shop.broker.is_away = False
    shop.work()
    shop.work()
    assert sorted(shop.broker.revoked) == sorted(shop.row(run).task_id for run in (waiting, executing))
    shop.report(executing, "completed")
    shop.work()
    assert shop.status(executing) == "canceled"
    assert shop.status(queued) == "dequeued"


def test_the_task_of_a_silent_worker_ends_without_a_second_message(shop: TaskJobs) -> None:
    """A killed worker would keep its runs, and a second message without being asked could double what it did."""
    job = shop.task_job(timeout_secs=3600)
    run = shop.run_of(job)
    shop.beat_of_worker()
    shop.begin_task(run)
    for _ in range(10):
        shop.pass_(10)
        shop.beat_of_worker()
        shop.work()
    assert shop.status(run) == "executing"
    for _ in range(7):
        shop.pass_(10)
        shop.work()
    row = shop.row(run)
    assert (row.status, row.error) == ("crashed", "the worker that executed the run is gone")
    assert len(shop.broker.sent) == 1
    assert shop.broker.revoked == [row.task_id], "its broker may deliver the message once more"


def test_a_worker_whose_reports_wait_is_not_taken_for_silent(shop: TaskJobs) -> None:
    """After a server was away, each task that ran meanwhile would be `crashed` before its worker could report."""
    run = shop.run_of(shop.task_job(timeout_secs=3600))
    shop.beat_of_worker()
    shop.begin_task(run)
    shop.pass_(600)
    shop.restart()
    shop.tasks.take_over(shop.store.moment)
    for _ in range(20):
        shop.pass_(10)
        shop.work()
    assert shop.status(run) == "executing"
    shop.beat_of_worker()
    for _ in range(7):
        shop.work()
        shop.pass_(10)
    shop.work()
    assert shop.status(run) == "crashed", "it was heard of, and then no more"


def test_a_worker_without_heartbeats_is_judged_by_the_deadline_alone(shop: TaskJobs) -> None:
    """Each task of a worker whose heartbeats are off would be taken for lost after a minute."""
    run = shop.run_of(shop.task_job(timeout_secs=3600))
    shop.begin_task(run)
    for _ in range(20):
        shop.pass_(60)
        shop.work()
    assert shop.status(run) == "executing"
    shop.report(run, "unknown")
    for _ in range(2):
        shop.work()
        shop.pass_(61)
        shop.work()
    assert shop.status(run) == "crashed", "a sidecar has lost it"


def test_limits_hold_for_tasks(shop: TaskJobs) -> None:
    """A limit that HTTP jobs keep would let any number of tasks into the queue."""
    job = shop.task_job(max_concurrency=2, max_concurrency_per_key=1)
    runs = []
    for key in "aab":
        shop.pass_(1)
        runs.append(shop.trigger(job, concurrency_key=key))
    shop.work()
    assert [shop.status(run) for run in runs] == ["dequeued", "queued", "dequeued"]
    shop.report(runs[0], "completed")
    shop.work()
    shop.work()
    assert [shop.status(run) for run in runs] == ["completed", "dequeued", "dequeued"]


def test_a_task_that_is_not_allowed_any_more_ends_its_runs(shop: TaskJobs) -> None:
    """Who narrows the list of tasks would see those that wait executed nonetheless."""
    job, queue = shop.task_job(), shop.task_job(query="?queue=mail")
    runs = [shop.trigger(job), shop.trigger(queue)]
    shop.restart(EngineOptions(tasks=("shop.report", "shop.m*l"), task_queues=()))
    shop.work()
    assert [shop.status(run) for run in runs] == ["dequeued", "system_failed"]
    assert "SLUICE_JOBS_QUEUES" in shop.row(runs[1]).error
    shop.restart(EngineOptions())
    refused = shop.trigger(job)
    shop.work()
    assert shop.status(refused) == "system_failed"
    assert "SLUICE_JOBS_TASKS" in shop.row(refused).error


def test_a_payload_that_is_no_call_by_the_version_of_now_ends_the_run(shop: TaskJobs) -> None:
    """A change of the endpoint would let a waiting run stop the engine."""
    job = shop.task_job(version_policy="latest")
    run = shop.trigger(job, payload={"to": "x"})
    shop.update(job, endpoint_url="celery://shop.mail?args=1")
    shop.work()
    assert shop.status(run) == "system_failed"
    assert "args" in shop.row(run).error


def test_events_are_found_after_a_restart_and_if_their_frames_are_gone(shop: TaskJobs) -> None:
    """A server that was away while many events came would miss how its tasks ended."""
    runs = [shop.run_of(shop.task_job()) for _ in range(3)]
    shop.begin_task(runs[0])
    position = shop.cursors()[CONNECTION]
    shop.report(runs[1], "completed")
    shop.restart()
    shop.work()
    assert shop.status(runs[1]) == "completed"
    assert shop.cursors()[CONNECTION] > position
    task_id = shop.row(runs[2]).task_id
    shop.report(runs[2], "failed", error="late")
    for number in range(FRAMES_KEPT + 10):
        if number % 1000 == 0:
            batch = [_event_of(shop, f"other-{number}-{index}") for index in range(1000)]
            shop.ingest(*batch)
    shop.restart()
    shop.work()
    assert shop.status(runs[2]) == "dead_letter", task_id


def _event_of(shop: TaskJobs, external_id: str) -> dict[str, object]:
    return {
        "type": "job_state_change",
        "timestamp": timestamp_of(shop.store.moment),
        "framework": "celery",
        "connectionId": CONNECTION,
        "job": {"externalId": external_id, "name": "shop.other", "state": "completed", "workerId": WORKER},
    }


def test_an_outcome_is_not_deleted_before_it_is_known(tmp_path: Path) -> None:
    """Retention, of a small database above all, would delete how a task ended while the engine was away."""
    shop = TaskJobs(tmp_path / "sluice.db", Keep(timedelta(hours=1), None))
    run = shop.run_of(shop.task_job(), ttl_secs=86_400)
    shop.report(run, "completed")
    shop.pass_(7_200)
    for number in range(3):
        shop.report(run, "completed", task_id=f"other-{number}")
        shop.pass_(3_700)
    shop.work()
    assert shop.status(run) == "completed"
    shop.close()


def test_the_clock_of_a_worker_does_not_matter(shop: TaskJobs) -> None:
    """A run would end before it began, or be timed out at once, by a worker whose clock is wrong."""
    for hours in (-5, 5):
        run = shop.run_of(shop.task_job(timeout_secs=60))
        claimed = shop.store.moment
        shop.pass_(5)
        wrong = timestamp_of(to_moment(shop.now + timedelta(hours=hours)))
        shop.report(run, "active", startedAt=wrong)
        shop.work()
        assert shop.status(run) == "executing"
        assert claimed <= shop.row(run).started_at <= shop.store.moment
        shop.report(run, "completed", startedAt=wrong, completedAt=wrong)
        shop.work()
        row = shop.row(run)
        assert (row.status, row.started_at <= row.finished_at <= shop.store.moment) == ("completed", True)


def test_events_of_any_connection_count(shop: TaskJobs) -> None:
    """Workers that report under another connection than the first one would have runs without an end."""
    runs = [shop.run_of(shop.task_job()) for _ in range(2)]
    other = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    shop.report(runs[0], "completed", connection=other)
    shop.report(runs[1], "completed")
    shop.work()
    assert [shop.status(run) for run in runs] == ["completed"] * 2
