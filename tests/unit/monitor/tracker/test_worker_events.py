"""Reports of workers: of those that send events, and of those that fall silent."""

from __future__ import annotations

import itertools

import pytest

from sluice_agent.lifecycle.agent_fields import AGENT
from sluice_agent.monitor.broker.control_client import INSPECT_COMMANDS
from tests.support.endpoint import event_id_of
from tests.unit.monitor.cluster import CONNECTION, PID, START, WORKER, Cluster

ONE = (WORKER, PID)
TWO = ("celery@two", 22)
STATS = {
    "pid": PID,
    "pool": {"implementation": "celery.concurrency.thread:TaskPool", "max-concurrency": 8},
}
QUEUES = [{"name": "mail", "routing_key": "mail"}]


@pytest.fixture
def cluster() -> Cluster:
    """One worker, of which nothing is known yet."""
    return Cluster()


def test_a_worker_comes_and_goes(cluster: Cluster) -> None:
    """From `worker-online` to `worker-offline`."""
    cluster.take("worker-online", freq=2.0, active=0, sw_ver="5.7.0", sw_sys="Linux")
    cluster.beat(active=2)
    cluster.beat(active=0)
    cluster.take("worker-offline", freq=2.0, active=0)
    cluster.take("worker-offline", freq=2.0, active=0)
    assert cluster.worker_states() == "online busy idle offline"
    assert cluster.emitted[1]["worker"]["activeJobs"] == 2
    assert cluster.emitted[0]["worker"]["metadata"]["software"] == "celery 5.7.0"
    assert cluster.tracker.workers() == {}


def test_a_worker_that_was_there_before(cluster: Cluster) -> None:
    """A monitor that starts later learns of a worker by its heartbeat."""
    cluster.beat()
    cluster.beat()
    assert cluster.worker_states() == "online"


def test_heartbeats_are_reported_once_in_the_interval(cluster: Cluster) -> None:
    """A worker beats every 2 s, and every event counts against a daily allowance."""
    cluster.wait(61, beating=ONE)
    assert 11 <= cluster.worker_states(beats=True).split().count("heartbeat") <= 13
    silent = Cluster(heartbeat_interval=0)
    silent.wait(61, beating=ONE)
    assert silent.worker_states(beats=True) == "online"


def test_a_worker_that_returns_within_seconds(cluster: Cluster) -> None:
    """A broker that is restarted makes every worker go and come: an endpoint that drops repetitions must see both."""
    for kind in ("online", "offline", "online"):
        cluster.take(f"worker-{kind}", freq=2.0, active=0)
        cluster.wait(2)
    assert cluster.worker_states() == "online offline online"
    assert len({event_id_of(event) for event in cluster.emitted}) == 3


def test_two_monitors_of_one_worker(cluster: Cluster) -> None:
    """Two sidecars receive the same events, at different times: an endpoint must recognise what is reported twice."""
    other = Cluster()
    for kind in ("online", "offline", "online"):
        event = cluster.event(f"worker-{kind}", freq=2.0, active=0)
        cluster.tracker.take(event)
        cluster.wait(0.7)
        other.wait(1.2)
        other.tracker.take(event)
    cluster.wait(20)
    other.wait(20)
    assert cluster.worker_states() == other.worker_states() == "online offline online offline"
    assert [event_id_of(event) for event in cluster.emitted] == [event_id_of(event) for event in other.emitted]


def test_three_missed_heartbeats(cluster: Cluster) -> None:
    """A worker whose host has died sends nothing: it must not look alive."""
    cluster.wait(10, beating=ONE)
    cluster.wait(5)
    assert cluster.worker_states() == "online"
    cluster.wait(5)
    assert cluster.worker_states() == "online offline"
    assert cluster.emitted[-1]["worker"]["metadata"]["reason"] == "no heartbeat for 7 s"
    cluster.beat()
    assert cluster.worker_states() == "online offline online"


def test_the_interval_is_the_workers_own(cluster: Cluster) -> None:
    """`--heartbeat-interval=30`: its silence of 80 s is no death."""
    cluster.beat(freq=30.0)
    cluster.wait(80)
    assert cluster.worker_states() == "online"
    cluster.wait(20)
    assert cluster.worker_states() == "online offline"


def test_an_answer_to_a_wakeup_names_another_interval(cluster: Cluster) -> None:
    """The heartbeat that a worker sends on request names 5 s, whatever its own interval is."""
    cluster.beat(freq=2.0)
    cluster.take("worker-heartbeat", freq=5, sw_ver="5.7.0")
    cluster.wait(9)
    assert cluster.worker_states() == "online offline"


def test_what_a_lost_worker_ran(cluster: Cluster) -> None:
    """Its end is not known; when the job runs again, its state is right again."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.run("received", external_id="job-2")
    cluster.wait(10)
    assert cluster.walk() == "queued active unknown"
    assert cluster.jobs()[-1]["job"]["extensions"]["reason"].startswith("its worker celery@one is lost: no heartbeat")
    assert cluster.walk("job-2") == "queued"  # it waits in the broker
    cluster.task("received", "job-1", *TWO)
    cluster.task("started", "job-1", *TWO)
    cluster.task("succeeded", "job-1", *TWO, runtime=0.1)
    assert cluster.walk() == "queued active unknown active completed"


def test_a_lost_worker_that_was_not_lost(cluster: Cluster) -> None:
    """It was cut off for a while: its later events are right."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.wait(10)
    cluster.run("succeeded")
    assert cluster.walk() == "queued active unknown completed"


def test_a_process_that_was_replaced_at_once(cluster: Cluster) -> None:
    """Killed and restarted within its heartbeats' time: the worker goes on, its runs do not."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.take("worker-online", WORKER, 12, freq=2.0, active=0)
    cluster.wait(20, beating=(WORKER, 12))
    assert cluster.worker_states() == "online busy online"
    assert cluster.walk() == "queued active unknown"
    assert cluster.tracker.workers()[WORKER].pid == 12


def test_a_process_that_was_replaced_before_its_first_heartbeat(cluster: Cluster) -> None:
    """It was killed as soon as it had begun: its run must not stay active."""
    cluster.run("received", "started")
    cluster.take("worker-online", WORKER, 99, freq=2.0, active=0)
    assert cluster.walk() == "queued active unknown"
    assert "was restarted" in cluster.jobs()[-1]["job"]["extensions"]["reason"]


@pytest.mark.parametrize("mark", [{}, {AGENT: CONNECTION}])
def test_a_process_that_was_replaced_by_one_of_the_same_number(cluster: Cluster, mark: dict[str, str]) -> None:
    """A container is started again within a second: its worker has the same host and is process 1 once more."""
    cluster.take("worker-online", freq=2.0, active=0, processed=0, sw_ver="5.7.0", **mark)
    cluster.run("sent", "received", "started")
    cluster.take("worker-online", freq=2.0, active=1, processed=1, sw_ver="5.7.0", **mark)  # it has connected again
    cluster.wait(2)
    assert "unknown" not in cluster.walk()
    cluster.take("worker-online", freq=2.0, active=0, processed=0, sw_ver="5.7.0", **mark)
    assert cluster.walk().endswith("unknown")
    assert "was restarted" in cluster.jobs()[-1]["job"]["extensions"]["reason"]
    assert WORKER in cluster.tracker.take_due_inspections()


def test_a_worker_that_sends_no_events(cluster: Cluster) -> None:
    """One without heartbeats and gossip can't be made to: it only replies which tasks it has."""
    first, second = (
        {"id": name, "name": "app.add", "time_start": at, "delivery_info": {"routing_key": "mail"}}
        for name, at in (("job-1", START), ("job-2", START + 40))
    )
    for _ in range(150):
        passed = cluster.now - START
        active = [first] if passed < 40 else [second] if passed < 100 else []
        reserved = [{**second, "time_start": None}] if passed < 40 else []
        if WORKER in cluster.tracker.take_due_inspections() or not passed:
            answers = {"stats": STATS, "active_queues": QUEUES, "active": active, "reserved": reserved}
            for command, reply in answers.items():
                cluster.tracker.on_reply(WORKER, command, reply)
        cluster.wait(1)
    assert cluster.walk() == "active unknown"
    assert cluster.walk("job-2") == "queued active unknown"
    assert cluster.jobs()[-1]["job"]["extensions"]["reason"] == "it ended, and its worker sends no events"


def test_two_workers_of_one_name(cluster: Cluster) -> None:
    """A mistake that Celery only warns of must not flood the endpoint with events of going and coming."""
    cluster.wait(10, beating=ONE)
    for _ in range(10):
        cluster.wait(2, beating=(WORKER, 12))
        cluster.wait(2, beating=ONE)
    assert cluster.worker_states() == "online online"


def test_a_warm_shutdown(cluster: Cluster) -> None:
    """`worker-offline` arrives before the last events of the worker's runs."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.take("worker-offline", freq=2.0, active=1)
    cluster.wait(5)
    cluster.run("succeeded")
    cluster.wait(60)
    assert cluster.walk() == "queued active completed"


def test_a_shutdown_without_the_last_event_of_a_run(cluster: Cluster) -> None:
    """A job must not stay active when its worker has gone offline."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.take("worker-offline", freq=2.0, active=1)
    cluster.wait(60)
    assert cluster.walk() == "queued active unknown"


def test_a_shutdown_whose_event_arrives_before_those_of_a_job(cluster: Cluster) -> None:
    """A solo worker sends `worker-offline` first, and then the events of its job, which must not stay active."""
    cluster.beat()
    began = [cluster.event(f"task-{kind}", uuid="job-1", name="app.add") for kind in ("received", "started")]
    cluster.take("worker-offline", freq=2.0, active=0)
    for event in began:
        cluster.tracker.take(event)
    cluster.wait(60)
    assert cluster.walk() == "queued active unknown"


def test_a_worker_that_reconnects_to_its_broker(cluster: Cluster) -> None:
    """It goes offline and comes back while its jobs run on."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.take("worker-offline", freq=2.0, active=1)
    cluster.take("worker-online", freq=2.0, active=1)
    for _ in range(15):
        cluster.wait(2)
        cluster.beat(active=1)
    cluster.run("succeeded")
    assert cluster.walk() == "queued active completed"


def test_a_task_that_ends_without_an_event(cluster: Cluster) -> None:
    """Celery sends nothing when a task raises Ignore; its worker's heartbeats show that nothing runs any more."""
    cluster.run("received", "started")
    cluster.beat(active=0)
    cluster.wait(3, beating=ONE)
    assert cluster.walk() == "queued active"  # the task's end may be on its way
    cluster.wait(3, beating=ONE)
    assert cluster.walk() == "queued active unknown"


@pytest.mark.parametrize("is_lost", [True, False])
def test_an_end_that_was_on_its_way_for_long(cluster: Cluster, is_lost: bool) -> None:
    """Heartbeats overtake it in a shutdown, or when the broker is away: sorted by time, it must be the last event."""
    cluster.beat(active=1)
    cluster.run("received", "started")
    cluster.beat(active=1)
    end = cluster.event("task-succeeded", uuid="job-1", result="3", runtime=0.001)
    cluster.wait(20, beating=None if is_lost else ONE)
    assert cluster.walk() == "queued active unknown"
    cluster.tracker.take(end)
    assert cluster.walk() == "queued active unknown completed"


def test_a_task_that_starts_between_heartbeats(cluster: Cluster) -> None:
    """It began after the worker had counted its runs."""
    cluster.beat(active=0)
    cluster.run("received", "started")
    cluster.beat(active=0)
    cluster.beat(active=0)
    assert cluster.walk() == "queued active"


def test_a_worker_with_an_agent_of_its_own(cluster: Cluster) -> None:
    """Its agent reports it and its jobs: the monitor reports only its death."""
    agent = {AGENT: CONNECTION}
    cluster.take("worker-online", freq=2.0, active=0, sw_ver="5.7.0", **agent)
    cluster.run("received", "started")
    cluster.beat(active=0, **agent)
    cluster.beat(active=0, **agent)
    cluster.run("received", "started", external_id="job-2")
    cluster.beat(active=1, **agent)
    assert cluster.walk() == ""
    assert cluster.worker_states(beats=True) == ""
    cluster.wait(20)
    assert cluster.worker_states() == "offline"
    assert cluster.walk("job-2") == "unknown"


def test_a_task_that_ended_before_its_busy_worker_was_killed(cluster: Cluster) -> None:
    """Its agent has reported that end, which no Celery event shows: the run that was killed is another task's."""
    agent = {AGENT: CONNECTION}
    cluster.beat(active=0, **agent)
    cluster.run("received", "started")
    for number in range(2, 10):
        cluster.run("received", "started", external_id=f"job-{number}")
        cluster.beat(active=1, **agent)
        if number < 9:
            cluster.run("succeeded", external_id=f"job-{number}")
    cluster.wait(20)
    assert cluster.worker_states() == "offline"
    assert cluster.walk() == ""
    assert cluster.walk("job-9") == "unknown"


def test_an_end_whose_event_is_late_counts_for_no_heartbeat(cluster: Cluster) -> None:
    """It was over when the worker counted: the worker counted the other run, whose loss must be reported."""
    agent = {AGENT: CONNECTION}
    cluster.run("received", "started")
    cluster.run("received", "started", external_id="job-2")
    late = cluster.event("task-succeeded", uuid="job-2", result="3", runtime=0.001)
    cluster.beat(active=1, **agent)
    cluster.tracker.take(late)
    cluster.wait(20)
    assert cluster.walk() == "queued active unknown"
    assert cluster.walk("job-2") == "queued active"


def test_a_task_of_which_only_the_agent_knows_the_name(cluster: Cluster) -> None:
    """Reported first and without its name, it would stay nameless: the agent's own event would count as the second."""
    cluster.beat(active=1, **{AGENT: CONNECTION})
    cluster.run("started", "succeeded")
    cluster.task("revoked", "job-2", terminated=False, signum=None, expired=True)
    assert cluster.walk() == cluster.walk("job-2") == ""
    cluster.run("received", "started", "succeeded", external_id="job-3")
    assert cluster.walk("job-3") == ""


def test_the_agent_of_another_account(cluster: Cluster) -> None:
    """An agent that reports to another account reports nothing to ours."""
    cluster.beat(**{AGENT: "550e8400-e29b-41d4-a716-000000000000"})
    assert cluster.worker_states() == "online"


def test_the_replies_of_workers(cluster: Cluster) -> None:
    """Pool, size and queues are in no event."""
    cluster.beat()
    assert cluster.tracker.take_due_inspections() == [WORKER]
    assert cluster.tracker.take_due_inspections() == []
    cluster.tracker.on_reply(WORKER, "stats", STATS)
    cluster.tracker.on_reply(WORKER, "active_queues", QUEUES)
    cluster.tracker.on_reply("celery@nobody", "stats", STATS)
    cluster.wait(10, beating=ONE)
    worker = cluster.emitted[-1]["worker"]
    assert (worker["concurrency"], worker["queues"], worker["metadata"]["pool"]) == (8, ["mail"], "threads")
    assert cluster.tracker.queues() == {"mail"}
    cluster.run("received")
    assert cluster.jobs()[0]["job"]["queue"] == "mail"  # it can have come from nowhere else


@pytest.mark.parametrize("command", INSPECT_COMMANDS)
@pytest.mark.parametrize("reply", [None, [], {}, [None], [[]], [{"id": 5}], {"pool": 7}, [{"name": None}], "text", 5])
def test_strange_replies(cluster: Cluster, command: str, reply: object) -> None:
    """A worker of any version, or another client, may reply."""
    cluster.beat()
    cluster.tracker.on_reply(WORKER, command, reply)
    cluster.run("received", "started", "succeeded")
    assert cluster.walk() == "queued active completed"


def test_a_worker_that_is_too_busy_to_answer(cluster: Cluster) -> None:
    """It is inspected a few times more, with longer and longer pauses, and then left alone."""
    asked = []
    for second in range(600):
        cluster.wait(1, beating=ONE)
        if cluster.tracker.take_due_inspections():
            asked.append(second)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(asked) == 5
    assert pauses == sorted(pauses)
    assert pauses[0] >= 10


def test_those_that_return_are_inspected_again(cluster: Cluster) -> None:
    """Its pool may be another one by now."""
    cluster.beat()
    cluster.tracker.take_due_inspections()
    cluster.wait(10)
    cluster.beat()
    assert cluster.tracker.take_due_inspections() == [WORKER]


def test_a_gap(cluster: Cluster) -> None:
    """While the monitor had no connection, no worker missed a heartbeat, and the ends of some jobs were missed."""
    cluster.beat(active=2)
    cluster.run("received", "started")
    cluster.run("received", "started", external_id="job-2")
    cluster.tracker.take_due_inspections()
    cluster.now += 30
    cluster.tracker.on_reconnect(cluster.now, 30.0)
    cluster.tracker.tick(cluster.now)
    assert cluster.worker_states() == "online busy"
    assert cluster.tracker.take_due_inspections() == [WORKER]
    cluster.beat(active=2)
    running = {"id": "job-2", "name": "app.add", "time_start": START, "acknowledged": True}
    missed = {"id": "job-3", "name": "app.missed", "time_start": cluster.now, "acknowledged": True}
    cluster.tracker.on_reply(WORKER, "active", [running, missed])
    assert cluster.walk() == "queued active"  # its end may be on its way
    cluster.wait(10, beating=ONE, active=2)
    assert cluster.walk() == "queued active unknown"
    assert cluster.walk("job-2") == "queued active"
    assert cluster.walk("job-3") == "active"
    assert cluster.jobs("job-3")[0]["job"]["name"] == "app.missed"


def test_jobs_that_wait_in_a_worker_are_learned(cluster: Cluster) -> None:
    """Jobs that a worker had taken before the monitor came have a name and a queue when they start."""
    cluster.beat()
    info = {"name": "app.add", "delivery_info": {"exchange": "", "routing_key": "mail", "redelivered": False}}
    cluster.tracker.on_reply(WORKER, "reserved", [{"id": "job-1", **info}])
    eta = {"eta": "2100-01-01T00:00:00+00:00", "priority": 6, "request": {"id": "job-2", **info}}
    cluster.tracker.on_reply(WORKER, "scheduled", [eta])
    cluster.run("started")
    cluster.wait(10, beating=ONE, active=1)
    assert cluster.walk() == "active"
    assert cluster.walk("job-2") == "scheduled"
    assert {(event["job"]["name"], event["job"]["queue"]) for event in cluster.jobs()} == {("app.add", "mail")}


def test_an_answer_that_comes_before_the_events_it_knows_of(cluster: Cluster) -> None:
    """Events wait until all workers have replied, so a reply names jobs whose events are still to be read."""
    info = {"name": "app.add", "acknowledged": True}
    cluster.tracker.on_reply(WORKER, "stats", STATS)
    cluster.tracker.on_reply(WORKER, "reserved", [{"id": "job-1", **info}])
    cluster.tracker.on_reply(WORKER, "active", [{"id": f"job-{n}", "time_start": START, **info} for n in (2, 3)])
    cluster.beat(active=2)
    cluster.task("received", "job-1", retries=2)
    cluster.task("received", "job-2", timestamp=START - 1)
    cluster.run("started", external_id="job-2")
    cluster.run("started", "succeeded")
    cluster.run("succeeded", external_id="job-2")
    cluster.run("succeeded", external_id="job-3")
    cluster.wait(10, beating=ONE)
    assert cluster.walk("job-1") == "active/3 completed/3"
    assert cluster.walk("job-2") == "queued active completed"
    assert cluster.walk("job-3") == "active completed"
    assert cluster.jobs("job-2")[-1]["job"]["extensions"].get("redelivered") is None


def test_a_solo_worker_that_is_busy(cluster: Cluster) -> None:
    """It can't send a heartbeat while it runs a task; that does not make its task lost."""
    cluster.beat()
    cluster.tracker.on_reply(WORKER, "stats", {**STATS, "pool": {"implementation": "celery.concurrency.solo:TaskPool"}})
    cluster.run("received", "started")
    cluster.wait(600)
    cluster.run("succeeded")
    assert cluster.walk() == "queued active completed"
    assert cluster.worker_states() == "online"


def test_a_task_event_is_a_sign_of_life(cluster: Cluster) -> None:
    """A worker may be too busy for a heartbeat."""
    cluster.beat()
    for number in range(20):
        cluster.wait(1)
        cluster.run("received", external_id=f"job-{number}")
    assert cluster.worker_states() == "online"


def test_a_monitor_that_was_stopped(cluster: Cluster) -> None:
    """SIGSTOP, a laptop that sleeps, a clock that is set: it is not the workers that were silent."""
    cluster.wait(4, beating=ONE)
    for jump in (3_600, -7_200):
        cluster.now += jump
        cluster.tracker.tick(cluster.now)
        cluster.wait(4, beating=ONE)
    assert cluster.worker_states() == "online"


def test_pods_do_not_pile_up(cluster: Cluster) -> None:
    """Every deployment brings names that never come back."""
    for number in range(500):
        cluster.beat(f"celery@pod-{number}", 1)
        cluster.task("received", f"job-{number}", f"celery@pod-{number}", 1)
    assert len(cluster.tracker.workers()) == 500
    cluster.wait(120)
    assert len(cluster.tracker.workers()) == 0
    assert cluster.tracker.known_workers == 0
