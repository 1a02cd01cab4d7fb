"""The thread that evaluates."""

from __future__ import annotations

from contextlib import closing
from threading import Event

from sqlalchemy.exc import OperationalError

from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.alerts.evaluator import Evaluator
from sluice_agent.server.alerts.rules import Depth
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store import UnavailableError
from tests.unit.server.alerts.conftest import Watch, rule
from tests.unit.server.events import snapshot


class FailingEvaluation(Evaluation):
    """Fails a few times, then evaluates."""

    failures: list[Exception]

    def run(self) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return super().run()


def test_it_goes_on_after_failures(watch: Watch) -> None:
    """A database that was away for a minute, or one odd row, would end all alerts until the server is restarted."""
    watch.add(snapshot("mail", 0, 11))
    evaluation = FailingEvaluation(watch.store, [rule(Depth("mail", 10))], PastSums())
    evaluation.failures = [UnavailableError("full"), OperationalError("", {}, OSError("away")), KeyError("odd")]
    woken = Event()
    evaluator = Evaluator(evaluation, watch.store.lease("alerts", 60), woken.set, interval=0.01)
    with closing(evaluator):
        evaluator.start()
        assert woken.wait(30)
    assert [body["type"] for body in watch.bodies()] == ["alert.firing"]


def test_only_one_process_evaluates(watch: Watch) -> None:
    """All servers behind a balancer would read the same each fifteen seconds; or none after one has ended."""
    watch.add(snapshot("mail", 0, 11))
    lease = watch.store.lease("alerts", 60)
    assert lease.is_held()
    other = watch.store.lease("alerts", 60)
    other._holder = "another process"
    woken = Event()
    rules = [rule(Depth("mail", 10))]
    evaluator = Evaluator(Evaluation(watch.store, rules, PastSums()), other, woken.set, interval=0.01)
    with closing(evaluator):
        evaluator.start()
        assert not woken.wait(0.2)
        lease.release()
        watch.clock.seconds = 31  # it looks again after half of the lease
        assert woken.wait(30)
