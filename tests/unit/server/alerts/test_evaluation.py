"""Evaluations over a real database: states and webhooks in one transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.alerts.rules import Depth, Silence
from sluice_agent.server.queries.alerts import firing_alerts
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store.webhook_tables import webhook_delivery
from tests.unit.server.alerts.conftest import Watch, rule
from tests.unit.server.events import CONNECTION, at, snapshot


def test_what_is_sent(watch: Watch) -> None:
    """A receiver could not know what is wrong, since when, and what belongs together."""
    full = rule(Depth("mail", 10), "mail is full", connection=CONNECTION.upper(), repeat=300, holds_for=15)
    watch.add(snapshot("mail", 0, 11))
    assert watch.evaluate(full, seconds=0) == []
    assert watch.evaluate(full, seconds=15) == ["alert.firing"]
    assert watch.evaluate(full, seconds=30) == []
    watch.add(snapshot("mail", 310, 12))
    assert watch.evaluate(full, seconds=315) == ["alert.repeated"]
    watch.add(snapshot("mail", 320, 10))
    assert watch.evaluate(full, seconds=330) == ["alert.resolved"]
    first, repeated, resolved = watch.bodies()
    assert first == {
        "type": "alert.firing",
        "timestamp": at(15),
        "data": {
            "rule": "mail is full",
            "connection": {"id": CONNECTION, "name": None},
            "condition": "more than 10 jobs are in the queue mail, for 15 s",
            "text": "11 jobs are in the queue mail",
            "value": 11,
            "limit": 10,
            "since": at(0),
        },
    }
    assert [body["data"]["since"] for body in (repeated, resolved)] == [at(0), at(0)]
    assert [body["data"]["value"] for body in (repeated, resolved)] == [12, 10]


def test_states_survive_and_a_rule_that_is_gone_goes(watch: Watch) -> None:
    """A restart would page again; and an alert that nothing resolves would be shown for ever."""
    watch.add(snapshot("mail", 0, 11))
    first, second = rule(Depth("mail", 10), "first"), rule(Depth("mail", 20), "second")
    assert watch.evaluate(first, second, seconds=1) == ["alert.firing"]
    assert watch.evaluate(first, second, seconds=16) == []
    assert {name: alert.phase for name, alert in watch.alerts().items()} == {"first": "firing", "second": "quiet"}
    with watch.store.reading() as reader:
        assert [alert.rule for alert in firing_alerts(reader, 1)] == ["first"]
        assert firing_alerts(reader, 2) == []
    watch.evaluate(second, seconds=31)
    assert list(watch.alerts()) == ["second"]


def test_an_evaluation_that_is_late_changes_nothing(watch: Watch) -> None:
    """Two processes, of which one was stopped amid its evaluation, would both page."""
    watch.add(snapshot("mail", 0, 1))
    full = rule(Depth("mail", 10))
    watch.evaluate(full, seconds=1)
    watch.add(snapshot("mail", 2, 11))
    late = Evaluation(watch.store, [full], PastSums())
    writing = watch.store.writing

    def overtaken() -> object:
        watch.store.writing = writing  # type: ignore[method-assign]
        assert watch.evaluate(full, seconds=16) == ["alert.firing"]
        return writing()

    watch.store.writing = overtaken  # type: ignore[method-assign, assignment]
    assert late.run() == 0
    assert len(watch.bodies()) == 1


def test_a_state_and_its_webhook_are_written_together(watch: Watch) -> None:
    """A process that is killed in between would leave an alert that fires, and that nobody gets."""
    watch.add(snapshot("mail", 0, 11))
    broken = rule(Depth("mail", 10), "z")
    object.__setattr__(broken, "webhook", None)
    with pytest.raises(AttributeError):
        watch.evaluate(rule(Depth("mail", 10), "a"), broken, seconds=1)
    assert watch.alerts() == {}
    with watch.store.reading() as reader:
        assert list(reader.scalars(select(webhook_delivery.c.id))) == []


def test_a_connection_that_is_not_there_yet(watch: Watch) -> None:
    """A rule could not be written before the first worker starts."""
    missing = rule(Silence("celery@w", 60), connection="shop")
    assert watch.evaluate(missing, seconds=1) == []
    [alert] = watch.alerts().values()
    assert (alert.phase, alert.connection, alert.text) == ("quiet", None, "there is no connection shop")
