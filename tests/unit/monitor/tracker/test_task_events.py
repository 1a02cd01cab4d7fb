"""Reports of jobs, from events in the orders and with the errors that Celery has."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sluice_agent.lifecycle.identity import job_event_id, run_of
from sluice_agent.lifecycle.timestamps import timestamp
from tests.unit.monitor.cluster import CONNECTION, PID, WORKER, Cluster

RUN = run_of(WORKER, PID, 0, redelivered=False)
AGAIN = run_of(WORKER, PID, 1, redelivered=True)
BEGUN = ("received", "started")
OTHER = ("celery@two", 22)


@pytest.fixture
def cluster() -> Cluster:
    """One worker, of which nothing is known yet."""
    return Cluster()


def id_of(state: str, attempt: int = 1, run: str = RUN) -> str:
    """The id that the worker's own agent gives to this transition of ``job-1``."""
    return job_event_id(CONNECTION, "job-1", state, attempt, run_name=run)


def test_a_job_that_succeeds(cluster: Cluster) -> None:
    """The plainest of jobs, with the ids of the agents: another id would show every job twice."""
    cluster.run(*BEGUN, "succeeded")
    assert cluster.walk() == "queued active completed"
    assert cluster.ids() == [id_of("queued", run=""), id_of("active"), id_of("completed")]
    last = cluster.jobs()[-1]["job"]
    assert (last["name"], last["workerId"], last["previousState"]) == ("app.add", WORKER, "active")
    assert last["startedAt"] < last["completedAt"]
    assert last["extensions"]["runtime"] == 0.001


def test_sent_after_received(cluster: Cluster) -> None:
    """A producer's event takes another way than a worker's, and arrives late: the job must not wait once more."""
    cluster.run(*BEGUN)
    cluster.task("sent", "job-1", "gen7@host", 7, queue="q", exchange="", routing_key="q")
    cluster.run("succeeded")
    assert cluster.walk() == "queued active completed"
    assert cluster.jobs()[-1]["job"]["queue"] == "q"
    assert "createdAt" in cluster.jobs()[-1]["job"]


def test_sent_before_received(cluster: Cluster) -> None:
    """A job waits from the moment it was published, and every later state shows its queue and that moment."""
    cluster.task("sent", "job-1", "gen7@host", 7, queue="q", exchange="", routing_key="q")
    cluster.run(*BEGUN, "succeeded")
    assert cluster.walk() == "queued active completed"
    assert {job["job"]["queue"] for job in cluster.jobs()} == {"q"}
    assert len({job["job"]["createdAt"] for job in cluster.jobs()}) == 1
    assert cluster.tracker.queues() == {"q"}


def test_sent_before_received_but_later_by_the_clock(cluster: Cluster) -> None:
    """A producer makes its event when the message is on its way, and a fast worker may have begun by then."""
    late = cluster.event("task-sent", "gen7@host", 7, uuid="job-1", name="app.add", retries=0, queue="q")
    late["timestamp"] += 0.1
    cluster.tracker.take(late)
    cluster.run(*BEGUN, "succeeded")
    assert cluster.walk() == "queued active completed"
    assert {job["job"]["queue"] for job in cluster.jobs()} == {"q"}


@pytest.mark.parametrize("kind", ["sent", "received"])
def test_scheduled(cluster: Cluster, kind: str) -> None:
    """A job that is held for its ETA is not late."""
    cluster.task(kind, eta="2100-01-01T00:00:00+00:00")
    cluster.wait(2)
    assert cluster.walk() == "scheduled"
    assert cluster.jobs()[0]["job"]["extensions"]["eta"] == "2100-01-01T00:00:00.000000Z"


def test_an_eta_that_passed_in_the_queue(cluster: Cluster) -> None:
    """The producer's agent reported `scheduled`; `queued` beside it would be a second event of the one publication."""
    cluster.task("received", eta="2001-01-01T00:00:00+00:00")
    assert cluster.walk() == "scheduled"


def test_an_eta_that_passed_is_left_to_the_agents(cluster: Cluster) -> None:
    """A producer that publishes with an ETA of now reports `queued`; `scheduled` beside it would be a second event."""
    cluster.beat(sluice_agent=CONNECTION)
    cluster.task("received", eta="2001-01-01T00:00:00+00:00")
    cluster.task("sent", eta="2001-01-01T00:00:00+00:00")
    cluster.wait(2)
    assert cluster.walk() == ""
    cluster.run("started", "succeeded")
    assert cluster.walk() == ""


def test_retries(cluster: Cluster) -> None:
    """Every attempt is reported under its own number, although only `task-received` names it."""
    for attempt in range(2):
        cluster.task("received", retries=attempt)
        cluster.run("started")
        cluster.task("retried", exception=f"ValueError('attempt {attempt + 1}')", traceback="")
    cluster.task("received", retries=2)
    cluster.run("started", "failed")
    assert cluster.walk() == "queued active retrying active/2 retrying/2 active/3 failed/3"
    assert cluster.ids()[3:5] == [id_of("active", 2), id_of("retrying", 2)]
    assert cluster.jobs()[2]["job"]["error"] == "ValueError: attempt 1"


def test_retried_after_the_next_attempt_was_received(cluster: Cluster) -> None:
    """The task process publishes the retry before its worker knows of it: in that order it would be no legal walk."""
    cluster.run(*BEGUN)
    cluster.task("received", "job-1", *OTHER, retries=1)
    cluster.task("started", "job-1", *OTHER)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.task("succeeded", "job-1", *OTHER, result="3", runtime=0.1)
    assert cluster.walk() == "queued active retrying active/2 completed/2"


def test_the_next_attempt_is_received_before_this_one_is_reported_to_have_started(cluster: Cluster) -> None:
    """A busy worker reads its broker before its pool, and the job is retried at once."""
    cluster.run("received")
    cluster.task("received", retries=1, eta="2100-01-01T00:00:00")
    cluster.run("started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active retrying active/2 completed/2"


def test_both_attempts_in_one_worker(cluster: Cluster) -> None:
    """Of two attempts that look active at once, the earlier is retried."""
    cluster.run(*BEGUN)
    cluster.task("received", retries=1)
    cluster.run("started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("succeeded")
    assert cluster.walk() == "queued active retrying active/2 completed/2"


@pytest.mark.parametrize("end", ["succeeded", "failed"])
@pytest.mark.parametrize("known_by", ["sent", "received"])
def test_an_attempt_that_publishes_the_next_without_a_retry(cluster: Cluster, known_by: str, end: str) -> None:
    """`retry(throw=False)`, a `Retry` that is caught, or an `apply_async` by hand: the job has not ended."""
    cluster.run(*BEGUN)
    cluster.task(known_by, retries=1, eta="2100-01-01T00:00:00+00:00")
    published = cluster.now
    cluster.run(end)
    assert cluster.walk() == "queued active retrying"
    event = cluster.jobs()[-1]
    assert event["job"]["extensions"]["celeryState"] == {"succeeded": "SUCCESS", "failed": "FAILURE"}[end]
    assert event["job"]["extensions"]["eta"] == "2100-01-01T00:00:00.000000Z"
    assert event["timestamp"] == timestamp(published)
    if known_by == "sent":
        cluster.task("received", retries=1)
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active retrying active/2 completed/2"
    assert cluster.ids()[2:] == [id_of("retrying"), id_of("active", 2), id_of("completed", 2)]


def test_every_attempt_publishes_the_next_without_a_retry(cluster: Cluster) -> None:
    """A job that polls by publishing itself again ends once, with the attempt that does not."""
    for attempt in range(3):
        cluster.task("received", retries=attempt)
        cluster.run("started")
        if attempt < 2:
            cluster.task("sent", retries=attempt + 1)
        cluster.run("succeeded")
    assert cluster.walk() == "queued active retrying active/2 retrying/2 active/3 completed/3"


def test_published_again_before_the_attempt_is_reported_to_be_received(cluster: Cluster) -> None:
    """A worker sends its events in batches, and the events of its task process overtake them."""
    cluster.task("sent", queue="q")
    cluster.task("sent", retries=1, queue="q")
    cluster.run(*BEGUN, "succeeded")
    cluster.task("received", retries=1)
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active retrying active/2 completed/2"


def test_handed_out_again_after_it_was_retried(cluster: Cluster) -> None:
    """The second run of the first attempt has published nothing: its own end must be reported."""
    cluster.run(*BEGUN)
    cluster.task("sent", retries=1)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run(*BEGUN, "succeeded")
    assert cluster.walk() == "queued active retrying active completed"


def test_terminated_after_it_has_published_the_next_attempt(cluster: Cluster) -> None:
    """A user has ended this attempt: it did not end by itself."""
    cluster.run(*BEGUN)
    cluster.task("sent", retries=1)
    cluster.task("revoked", terminated=True, signum="SIGTERM", expired=False)
    assert cluster.walk() == "queued active cancelled"


@pytest.mark.parametrize("kinds", [("sent", "received"), ("received", "sent"), ("received",), ("sent",)])
def test_published_with_retries(cluster: Cluster, kinds: tuple[str, ...]) -> None:
    """A user who runs a failed job again this way must see that it waits, under the id that agents give to that."""
    for kind in kinds:
        cluster.task(kind, retries=3, parent_id=None)
    cluster.wait(2)
    if "received" in kinds:
        cluster.run("started", "succeeded")
        assert cluster.walk() == "queued/4 active/4 completed/4"
        assert cluster.ids() == [id_of("queued", 4, run=""), id_of("active", 4), id_of("completed", 4)]
    else:
        assert cluster.walk() == "queued/4"
    assert ("createdAt" in cluster.jobs()[0]["job"]) is (kinds[0] == "sent")


def test_published_with_retries_by_a_producer_with_an_agent(cluster: Cluster) -> None:
    """Its agent has reported that the job waits."""
    cluster.task("sent", retries=3, parent_id=None, sluice_agent=CONNECTION)
    cluster.run("started", "succeeded")
    assert cluster.walk() == "active/4 completed/4"


@pytest.mark.parametrize("kinds", [("sent", "received"), ("received", "sent")])
@pytest.mark.parametrize("retries", [1, 3])
def test_published_with_retries_after_its_end(cluster: Cluster, kinds: tuple[str, ...], retries: int) -> None:
    """A failed job that a user runs again, as its next attempt, waits until a worker receives it."""
    cluster.task("sent", queue="q")
    cluster.run(*BEGUN, "failed")
    cluster.wait(60)
    for kind in kinds:
        cluster.task(kind, retries=retries, parent_id=None)
    cluster.run("started", "succeeded")
    cluster.wait(2)
    attempt = retries + 1
    assert cluster.walk() == f"queued active failed queued/{attempt} active/{attempt} completed/{attempt}"
    assert cluster.ids()[3:] == [
        id_of("queued", attempt, run=""),
        id_of("active", attempt),
        id_of("completed", attempt),
    ]


def test_published_with_retries_after_its_end_and_reported_late(cluster: Cluster) -> None:
    """A producer's event of a job that has ended by then is no further publication."""
    cluster.task("sent", queue="q")
    cluster.run(*BEGUN, "failed")
    cluster.task("received", retries=1, parent_id=None)
    cluster.run("started", "succeeded")
    cluster.task("sent", retries=1, parent_id=None)
    cluster.wait(2)
    assert cluster.walk() == "queued active failed queued/2 active/2 completed/2"


@pytest.mark.parametrize("parents", [{"parent_id": "job-0"}, {"root_id": None, "parent_id": None}])
def test_an_attempt_whose_publisher_is_not_known(cluster: Cluster, parents: dict[str, Any]) -> None:
    """A retry of a job that another task has published, or of task protocol 1, does not wait for its first run."""
    cluster.task("received", retries=1, **parents)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"


def test_retried_by_its_main_process(cluster: Cluster) -> None:
    """Celery 5.7 publishes a lost process's job again outside of any task: that is a retry, and no new job."""
    cluster.run(*BEGUN)
    cluster.task("sent", retries=1, parent_id=None)
    cluster.task("received", retries=1, parent_id=None)
    cluster.task("retried", exception="WorkerLostError('lost')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active retrying active/2 completed/2"


def test_requeued(cluster: Cluster) -> None:
    """A second run of one attempt is another run, under the id that its agent gives it."""
    cluster.run(*BEGUN)
    cluster.task("rejected", requeue=True)
    cluster.run(*BEGUN, "succeeded")
    assert cluster.walk() == "queued active queued active completed"
    assert cluster.ids()[2:] == [id_of("queued"), id_of("active", run=AGAIN), id_of("completed", run=AGAIN)]
    assert cluster.jobs()[-1]["job"]["extensions"]["redelivered"] is True


def test_redelivered_to_another_worker(cluster: Cluster) -> None:
    """A job of a killed worker runs again elsewhere."""
    cluster.run(*BEGUN)
    cluster.task("received", "job-1", *OTHER)
    cluster.task("started", "job-1", *OTHER)
    assert cluster.ids()[-1] == id_of("active", run=run_of(*OTHER, 0, redelivered=True))


def test_replaced(cluster: Cluster) -> None:
    """`self.replace` goes on under the same id: as another task, and as no redelivery of the same one."""
    cluster.run(*BEGUN)
    cluster.task("received", name="app.other")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active queued active completed"
    run = run_of(WORKER, PID, 1, redelivered=False) + "+1"
    assert cluster.ids()[2:] == [id_of("queued", run="+1"), id_of("active", run=run), id_of("completed", run=run)]
    assert cluster.jobs()[-1]["job"]["name"] == "app.other"


def test_replaced_after_a_retry(cluster: Cluster) -> None:
    """Attempts count from 1 again, in another run than the first attempt's."""
    cluster.run(*BEGUN)
    cluster.task("received", retries=1)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started")
    cluster.task("received", name="app.other")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active retrying active/2 queued active completed"
    run = run_of(WORKER, PID, 1, redelivered=False) + "+1"
    assert cluster.ids()[4:] == [id_of("queued", run="+1"), id_of("active", run=run), id_of("completed", run=run)]


@pytest.mark.parametrize("last_kinds", [("retried", "started", "started"), ("started", "started", "retried")])
def test_a_replacement_that_is_received_before_the_event_of_a_retry(
    cluster: Cluster, last_kinds: tuple[str, ...]
) -> None:
    """A busy worker reads its broker before its pool: the first attempt is retried, not its replacement."""
    cluster.run(*BEGUN)
    cluster.task("received", retries=1)
    cluster.task("received", name="app.other")
    for kind in last_kinds:
        cluster.task(kind, **({"exception": "ValueError('no')", "traceback": ""} if kind == "retried" else {}))
    cluster.run("succeeded")
    assert cluster.walk() == "queued active retrying active/2 queued active completed"
    run = run_of(WORKER, PID, 1, redelivered=False) + "+1"
    assert cluster.ids()[2] == id_of("retrying")
    assert cluster.ids()[4:] == [id_of("queued", run="+1"), id_of("active", run=run), id_of("completed", run=run)]


@pytest.mark.parametrize("order", ["sent first", "received first"])
def test_replaced_as_its_producer_reports_too(cluster: Cluster, order: str) -> None:
    """The events of both sides of the broker count as one replacement, in whichever order they arrive."""
    cluster.task("sent", queue="q")
    cluster.run(*BEGUN)
    for kind in ("sent", "received") if order == "sent first" else ("received", "sent"):
        cluster.task(kind, name="app.other")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active queued active completed"


def test_a_replacement_that_is_published_before_its_predecessors_events(cluster: Cluster) -> None:
    """Workers send their events in batches, and the events of a task process overtake them."""
    cluster.task("sent", queue="q")
    cluster.task("sent", name="app.other", queue="q")
    cluster.run(*BEGUN)
    cluster.beat(active=0)
    cluster.beat(active=0)
    cluster.task("received", name="app.other")
    cluster.run("started", "succeeded")
    run = run_of(WORKER, PID, 1, redelivered=False) + "+1"
    expected = [id_of("queued", run=""), id_of("queued", run="+1"), id_of("active"), id_of("active", run=run)]
    assert set(cluster.ids()) == {*expected, id_of("completed", run=run)}


def test_a_replacement_that_is_received_before_its_predecessors_start(cluster: Cluster) -> None:
    """A busy worker reads its broker before its pool."""
    cluster.run("received")
    cluster.task("received", name="app.other")
    cluster.run("started", "started", "succeeded")
    assert cluster.walk() == "queued active queued active completed"
    names = [event["job"]["name"] for event in cluster.jobs()]
    assert names == ["app.add", "app.add", "app.other", "app.other", "app.other"]


@pytest.mark.parametrize("received", [(), ("received",), ("received", "started")])
def test_a_producer_that_is_slower_than_a_replacement(cluster: Cluster, received: tuple[str, ...]) -> None:
    """A busy host's producer reports its publication when a worker has run the task, and replaced it by another one."""
    late = cluster.event("task-sent", uuid="job-1", name="app.add", args="(1, 2)", kwargs="{}", retries=0, queue="q")
    cluster.run(*received)
    cluster.task("sent", name="app.other", queue="q")
    cluster.tracker.take(late)
    cluster.run(*[kind for kind in BEGUN if kind not in received])
    cluster.task("received", name="app.other")
    cluster.run("started", "succeeded")
    cluster.wait(2)
    assert cluster.walk() == "queued active queued active completed"
    run = run_of(WORKER, PID, 1, redelivered=False) + "+1"
    assert cluster.ids()[2:] == [id_of("queued", run="+1"), id_of("active", run=run), id_of("completed", run=run)]


@pytest.mark.parametrize("seconds", [0, 2])
def test_a_replacement_that_is_published_before_its_predecessors_start(cluster: Cluster, seconds: int) -> None:
    """A busy worker learns late that its pool has begun; the task process has long published the replacement."""
    cluster.run("received")
    cluster.task("sent", queue="q")
    cluster.task("sent", name="app.other", queue="q")
    cluster.wait(seconds)
    cluster.run("started")
    cluster.task("received", name="app.other")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active queued active completed"


def test_a_task_with_two_names(cluster: Cluster) -> None:
    """Its producer sends one name, its worker the other: it has not replaced itself."""
    cluster.task("sent", name="app.add")
    cluster.task("received", name="sum of two")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "queued active completed"


def test_an_id_that_is_no_text(cluster: Cluster) -> None:
    """A caller may choose a number, or a UUID, which kombu's JSON preserves: all events must be reported."""
    ids: list[Any] = [uuid.uuid4(), 7, 7.5]
    for external_id in ids:
        for kind in ("received", "started", "succeeded"):
            cluster.task(kind, external_id)
        assert cluster.walk(str(external_id)) == "queued active completed"
    assert not cluster.dropped


def test_failed_then_rejected(cluster: Cluster) -> None:
    """Celery 5.7 sends a rejection as a failure first: one end."""
    cluster.run(*BEGUN)
    cluster.task("failed", exception="reject requeue=False: no", traceback=f"{TRACEBACK}celery.exceptions.Reject: no\n")
    cluster.task("rejected", requeue=False)
    cluster.wait(5)
    assert cluster.walk() == "queued active failed"
    assert cluster.jobs()[-1]["job"]["error"] == "Reject: no"
    assert cluster.jobs()[-1]["job"]["extensions"]["celeryState"] == "REJECTED"


def test_rejected_alone(cluster: Cluster) -> None:
    """Before Celery 5.7 no other event shows that the job has ended."""
    cluster.run(*BEGUN)
    cluster.task("rejected", requeue=False)
    assert cluster.walk() == "queued active"
    cluster.wait(5)
    assert cluster.walk() == "queued active failed"


def test_rejected_before_failed(cluster: Cluster) -> None:
    """With `acks_on_failure_or_timeout=False` the message goes first, and the error that users look for follows."""
    cluster.run(*BEGUN)
    cluster.task("rejected", requeue=False)
    cluster.run("failed")
    cluster.wait(5)
    assert cluster.walk() == "queued active failed"
    assert cluster.jobs()[-1]["job"]["error"] == "ValueError: boom"


def test_failed_twice(cluster: Cluster) -> None:
    """Celery 5.7 announces a hard time limit twice."""
    cluster.run(*BEGUN, "failed", "failed")
    assert cluster.walk() == "queued active failed"


def test_succeeded_after_revoked(cluster: Cluster) -> None:
    """A greenlet that is terminated `succeeds` with nothing: the job stays cancelled."""
    cluster.run(*BEGUN)
    cluster.task("revoked", terminated=True, signum=15, expired=False)
    cluster.task("succeeded", result=None, runtime=None)
    assert cluster.walk() == "queued active cancelled"
    extensions = cluster.jobs()[-1]["job"]["extensions"]
    assert (extensions["terminated"], extensions["signum"]) == (True, "15")
    assert "expired" not in extensions


def test_failed_after_succeeded(cluster: Cluster) -> None:
    """An end that corrects an earlier one is reported."""
    cluster.run(*BEGUN, "succeeded", "failed")
    assert cluster.walk() == "queued active completed failed"


def test_revoked_before_it_was_received(cluster: Cluster) -> None:
    """A worker that refuses a job has not begun to run it: the id is that of no run."""
    cluster.task("revoked", terminated=False, signum=None, expired=True)
    cluster.wait(2)
    assert cluster.walk() == "cancelled"
    assert cluster.ids() == [id_of("cancelled", run="")]
    assert cluster.jobs()[0]["job"]["name"] == "unknown"
    assert cluster.jobs()[0]["job"]["extensions"]["expired"] is True


def test_an_unknown_task(cluster: Cluster) -> None:
    """No worker has it: failed, before any run."""
    cluster.task("sent", name="no.such", queue="q")
    cluster.task("failed", exception="NotRegistered('no.such')")
    assert cluster.walk() == "queued failed"
    assert cluster.ids()[-1] == id_of("failed", run="")
    assert cluster.jobs()[-1]["job"]["error"] == "NotRegistered: 'no.such'"


@pytest.mark.parametrize("kind", ["failed", "revoked"])
def test_refused_before_its_producers_event(cluster: Cluster, kind: str) -> None:
    """The job's last state must be its end, also where the worker was faster than the producer's event."""
    fields = {"exception": "NotRegistered('no.such')"} if kind == "failed" else {"terminated": False, "expired": True}
    cluster.task(kind, **fields)
    cluster.task("sent", name="no.such", queue="q")
    cluster.wait(2)
    assert cluster.walk() == f"queued {'failed' if kind == 'failed' else 'cancelled'}"
    assert {job["job"]["name"] for job in cluster.jobs()} == {"no.such"}


@pytest.mark.parametrize("kind", ["failed", "revoked"])
def test_refused_long_before_its_producers_event(cluster: Cluster, kind: str) -> None:
    """The end has been reported by then, and must stay the last of the job's states."""
    fields = {"exception": "NotRegistered('no.such')"} if kind == "failed" else {"terminated": False, "expired": True}
    cluster.task(kind, **fields)
    cluster.wait(2)
    cluster.task("sent", name="no.such", queue="q")
    cluster.wait(2)
    assert cluster.walk() == f"queued {'failed' if kind == 'failed' else 'cancelled'}"


def test_a_monitor_that_ends_reports_what_it_knows(cluster: Cluster) -> None:
    """A restart of the sidecar must not lose events of a second before; its guesses are left to the next one."""
    cluster.task("sent", "job-1", queue="q")
    cluster.task("revoked", "job-2", terminated=False, signum=None, expired=True)
    cluster.run(*BEGUN, external_id="job-3")
    cluster.task("rejected", "job-3", requeue=False)
    cluster.task("received", "job-4", *OTHER)
    cluster.task("started", "job-4", *OTHER)
    cluster.take("worker-offline", *OTHER)
    cluster.tracker.finish()
    assert cluster.walk("job-1") == "queued"
    assert cluster.walk("job-2") == "cancelled"
    assert cluster.walk("job-3") == "queued active failed"
    assert cluster.walk("job-4") == "queued active"


def test_an_event_that_cannot_be_recorded_costs_no_other(cluster: Cluster) -> None:
    """A fault of ours in one job's last event must not cost the other events that a monitor holds as it ends."""
    cluster.tracker._timers.report_after(0.5, lambda: 1 // 0)
    cluster.task("sent", queue="q")
    cluster.tracker.finish()
    assert cluster.walk() == "queued"
    assert cluster.dropped == {"malformed_event": 1}


def test_a_process_that_died_before_its_job_was_recorded(cluster: Cluster) -> None:
    """The pool hands the job to the next process, and sends a second event that it started."""
    cluster.run(*BEGUN, "started", "succeeded")
    assert cluster.walk() == "queued active completed"


def test_never_seen_before(cluster: Cluster) -> None:
    """A monitor that starts later reports what it receives: the state, and the fields that are known."""
    cluster.task("succeeded", result="3", runtime=2.0)
    assert cluster.walk() == "completed"
    job = cluster.jobs()[0]["job"]
    assert (job["name"], job["workerId"]) == ("unknown", WORKER)
    assert "startedAt" in job
    assert "attempt" not in job  # no event has named it
    assert cluster.ids() == [id_of("completed")]


def test_a_worker_that_reports_its_start_late(cluster: Cluster) -> None:
    """A solo worker sends a job's events when it has ended: its producer's event, dated later, was reported by then."""
    began = [cluster.event(f"task-{kind}", uuid="job-1", name="app.add") for kind in ("received", "started")]
    cluster.task("sent")
    cluster.wait(5)
    for event in began:
        cluster.tracker.take(event)
    cluster.run("succeeded")
    assert cluster.walk() == "queued active completed"


@pytest.mark.parametrize(
    ("registered", "end"),
    [("app.add [acks_late=False]", "cancelled"), ("app.add [acks_late=True]", "queued"), ("app.add", "unknown")],
)
def test_cut_off_by_a_cold_shutdown(cluster: Cluster, registered: str, end: str) -> None:
    """Whether the job will ever run again depends on when it is acknowledged, which a worker reports only if asked."""
    cluster.beat(active=1)
    cluster.tracker.on_reply(WORKER, "registered", [registered])
    cluster.run(*BEGUN)
    cluster.take("worker-offline", active=1)
    cluster.task("cancelled")
    cluster.wait(3)
    assert cluster.walk() == f"queued active {end}"
    cluster.wait(60)
    assert cluster.walk() == f"queued active {end}"


@pytest.mark.parametrize("registered", ["app.add [acks_late=False]", "app.add [acks_late=True]", "app.add"])
def test_ended_as_it_was_cut_off(cluster: Cluster, registered: str) -> None:
    """A shutdown sends that it cuts off a run that has just ended as well: that job is not lost."""
    cluster.beat(active=1)
    cluster.tracker.on_reply(WORKER, "registered", [registered])
    cluster.run(*BEGUN)
    cluster.task("cancelled")
    cluster.wait(1)
    cluster.run("succeeded")
    cluster.wait(60)
    assert cluster.walk() == "queued active completed"


@pytest.mark.parametrize("kinds", [("cancelled", "succeeded"), ("succeeded", "cancelled"), ("succeeded",)])
def test_a_greenlet_that_is_cut_off(cluster: Cluster, kinds: tuple[str, ...]) -> None:
    """Celery takes its end for a success and acknowledges it, if late: the run did nothing, and is not repeated."""
    cluster.beat(active=1)
    cluster.tracker.on_reply(WORKER, "registered", ["app.add [acks_late=True]"])
    cluster.run(*BEGUN)
    for kind in kinds:
        cluster.task(kind, **({"result": None, "runtime": None} if kind == "succeeded" else {}))
    cluster.wait(60)
    assert cluster.walk() == "queued active cancelled"
    assert cluster.jobs()[-1]["job"]["extensions"]["reason"] == "cut off by a cold shutdown"


@pytest.mark.parametrize("result", ["3", "None"])
def test_a_process_that_was_lost_after_its_success(cluster: Cluster, result: str) -> None:
    """Celery 5.7 has read the stored result, and knows no runtime: the job has completed."""
    cluster.run(*BEGUN)
    cluster.task("succeeded", result=result, runtime=None)
    assert cluster.walk() == "queued active completed"


def test_ignored_tasks() -> None:
    """A task that its user ignores is not reported, from its first event to its last."""
    cluster = Cluster(ignore_tasks=("app.*",))
    cluster.run(*BEGUN, "succeeded")
    cluster.task("sent", "job-2", name="other.task")
    cluster.wait(2)
    assert cluster.walk() == ""
    assert cluster.walk("job-2") == "queued"


def test_arguments_are_reported_only_through_the_hook(cluster: Cluster) -> None:
    """Celery events carry the arguments of every task, and other people may read the endpoint."""
    cluster.run(*BEGUN, "succeeded")
    assert all(not {"args", "result"} & set(event["job"]["extensions"]) for event in cluster.jobs())
    with_hook = Cluster(redact=lambda name, value: f"{name} of {len(value)} characters")
    with_hook.run(*BEGUN, "succeeded")
    assert with_hook.jobs()[0]["job"]["extensions"]["args"] == "args of 6 characters"
    assert with_hook.jobs()[-1]["job"]["extensions"]["result"] == "result of 1 characters"


@pytest.mark.parametrize(
    "event",
    [
        {},
        ["no", "event"],
        {"type": "task-received"},
        {"type": "task-started", "uuid": ["no", "text"]},
        {"type": "task-started", "uuid": ""},
        {"type": "task-started", "uuid": True},
        {"type": "worker-heartbeat", "hostname": {"a": 1}, "pid": 1},
    ],
)
def test_malformed_events_are_counted(cluster: Cluster, event: Any) -> None:
    """Any client of the broker can send anything; one raising event must not end the monitoring of a cluster."""
    cluster.tracker.take(event)
    assert cluster.dropped["malformed_event"] == 1
    cluster.run(*BEGUN)
    assert cluster.walk() == "queued active"


def test_strange_values(cluster: Cluster) -> None:
    """Fields of the wrong type are left out, and the rest is reported."""
    cluster.task("received", retries="two", eta=5, name=None, root_id=[], parent_id=1.5)
    cluster.task("started", timestamp="yesterday")
    cluster.task("succeeded", runtime=float("nan"), result=object())
    assert [event["job"]["state"] for event in cluster.emitted] == ["queued", "active", "completed"]


def test_the_clock_of_the_sender_is_reported_as_it_is(cluster: Cluster) -> None:
    """Celery's own receiver moves it by the zones' difference, which would show a job hours away."""
    cluster.task("received", timestamp=1_790_000_000.5)
    assert cluster.jobs()[0]["timestamp"] == "2026-09-21T14:13:20.500000Z"


TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in task\n    raise\n'


def test_an_id_that_is_used_again(cluster: Cluster) -> None:
    """`nightly-report` is another job every night, perhaps with other arguments: none may be taken for the last one."""
    for night in range(3):
        cluster.task("sent", args=f"({night},)", queue="q")
        cluster.task("received", args=f"({night},)")
        cluster.run("started", "succeeded")
        cluster.wait(60)
    assert cluster.walk() == " ".join(["queued active completed"] * 3)
    assert len(set(cluster.ids())) == 9
    assert not any("redelivered" in event["job"]["extensions"] for event in cluster.jobs())
    assert len({event["job"]["createdAt"] for event in cluster.jobs()}) == 3


def test_a_producer_that_is_slower_than_its_job(cluster: Cluster) -> None:
    """Its event of a job that has ended by then is no second publication."""
    cluster.run(*BEGUN, "succeeded")
    cluster.task("sent", queue="q")
    cluster.wait(5)
    assert cluster.walk() == "queued active completed"
