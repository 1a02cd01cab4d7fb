"""What each rule measures, at its edge."""

from __future__ import annotations

from sluice_agent.server.alerts.rules import Depth, FailureShare, Measure, OldestWait, Silence
from tests.unit.server.alerts.conftest import Watch, rule
from tests.unit.server.events import at, job_event, run, snapshot, worker_event


def read(watch: Watch, measure: Measure, seconds: float) -> tuple[str, str]:
    """Return the phase after one evaluation by a new database's rule, and what was measured."""
    name = f"{measure} {seconds}"
    watch.evaluate(rule(measure, name), seconds=seconds)
    alert = watch.alerts()[name]
    return alert.phase, alert.text


def test_the_share_of_failures(watch: Watch) -> None:
    """A task that fails for each tenth customer would go unseen; or one failure in the night would page."""
    for number in range(20):
        state = "failed" if number < 2 else "completed"
        watch.add(*run("shop.pay", 60 + number, state, externalId=f"job-{number}"))
        watch.add(*run("shop.other", 60 + number, "failed", externalId=f"other-{number}"))
    text = "10 % of 20 jobs of shop.pay failed in 5 min"
    assert read(watch, FailureShare("shop.pay", 0.1, at_least=20), 120) == ("quiet", text)
    assert read(watch, FailureShare("shop.pay", 0.0999, at_least=20), 121) == ("firing", text)
    assert read(watch, FailureShare("shop.pay", 0.0999, at_least=21), 122) == (
        "quiet",
        "20 jobs of it have ended in 5 min",
    )
    assert read(watch, FailureShare("shop.no", 0.0), 123) == ("quiet", "no jobs of it have ended in 5 min")


def test_the_share_is_that_of_the_window(watch: Watch) -> None:
    """An alert would go on for what was repaired an hour ago."""
    watch.add(*run("shop.pay", 60, "failed"))  # it ends in the second minute
    measure = FailureShare("shop.pay", 0.5, over=300, at_least=1)
    assert read(watch, measure, 6 * 60 + 59.9)[0] == "firing"
    assert read(watch, measure, 7 * 60)[0] == "quiet"


def test_the_depth_of_a_queue(watch: Watch) -> None:
    """A queue that fills would go unseen; and what was sampled long ago would count for ever."""
    watch.clock.seconds = 10
    watch.add(snapshot("mail", 10, 100), snapshot("other", 10, 1_000))
    text = "100 jobs are in the queue mail"
    assert read(watch, Depth("mail", 100), 20) == ("quiet", text)
    assert read(watch, Depth("mail", 99), 21) == ("firing", text)
    assert read(watch, Depth("mail", 99), 310)[0] == "firing"
    assert read(watch, Depth("mail", 99), 311) == (
        "quiet",
        "the depth of the queue mail was last reported 5 min 1 s ago",
    )
    assert read(watch, Depth("none", 0), 22) == ("quiet", "the depth of the queue none was never reported")


def test_the_oldest_wait(watch: Watch) -> None:
    """Customers would wait for e-mails, and nobody would know."""
    for number, (queue, seconds) in enumerate((("mail", 10), ("mail", 30), ("slow", 1))):
        watch.add(job_event("queued", seconds, externalId=f"j{number}", queue=queue, createdAt=at(seconds)))
    measure = OldestWait("mail", 60)
    assert read(watch, measure, 70) == ("quiet", "the oldest job of the queue mail waits for 1 min")
    assert read(watch, measure, 70.5)[0] == "firing"
    watch.add(job_event("active", 71, externalId="j0", queue="mail"))
    assert read(watch, measure, 72) == ("quiet", "the oldest job of the queue mail waits for 42 s")
    assert read(watch, OldestWait("none", 60), 72) == ("quiet", "no job of the queue none waits for long")


def test_the_silence_of_a_worker(watch: Watch) -> None:
    """A host that is gone would be noticed by customers."""
    watch.clock.seconds = 10
    watch.add(worker_event("online", 10), worker_event("online", 9, "celery@other"))
    measure = Silence("celery@w", 120)
    assert read(watch, measure, 130)[0] == "quiet"
    assert read(watch, measure, 130.5) == ("firing", "the last event of the worker celery@w came 2 min ago")
    watch.clock.seconds = 131
    watch.add(worker_event("heartbeat", 131))
    assert read(watch, measure, 132)[0] == "quiet"
    assert read(watch, Silence("celery@no", 120), 130) == ("quiet", "no event of a worker celery@no is known")
