"""Marks by which a monitor sees what this process reports itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery.events.dispatcher import EventDispatcher
from celery.worker import WorkController
from celery.worker import state as worker_state

from sluice_agent.lifecycle.agent_fields import AGENT, CONNECTION, CREATED_AT, REPORTS
from sluice_agent.signals.agent_marks import AgentMarks
from sluice_agent.signals.publish_hook import WaitingJob, new_publication
from tests.unit.signals.observed import CONNECTION as CONNECTION_ID
from tests.unit.signals.observed import STARTED, Observed, app


@pytest.fixture(autouse=True)
def software_info() -> Iterator[None]:
    before = dict(worker_state.SOFTWARE_INFO)
    yield
    worker_state.SOFTWARE_INFO.clear()
    worker_state.SOFTWARE_INFO.update(before)


def marks(*, can_keep: bool) -> AgentMarks:
    made = AgentMarks(replace(Observed().sink, can_keep=lambda: can_keep))
    made.patch_events_and_stats()
    return made


@pytest.mark.parametrize("can_keep", [True, False])
def test_worker_events_are_marked_while_events_can_be_written(can_keep: bool) -> None:
    """A monitor would report every job a second time, or, if the disk is full, no process would report any."""
    marks(can_keep=can_keep).renew()
    assert worker_state.SOFTWARE_INFO[AGENT] == (CONNECTION_ID if can_keep else None)


@pytest.mark.parametrize(
    ("external_id", "can_keep", "is_marked"), [("job", True, True), ("other", True, False), ("job", False, False)]
)
def test_the_event_of_a_publication_that_is_reported_is_marked(
    external_id: str, can_keep: bool, is_marked: bool
) -> None:
    """A sidecar would report the publication as well, under another id."""
    marks(can_keep=can_keep)
    publication = new_publication(app, "task", ({}, {}, ()))
    publication.reported = WaitingJob(None, STARTED, "job", STARTED)
    fields: dict[str, Any] = {"uuid": external_id}
    sent: list[Any] = []
    dispatcher = EventDispatcher(app=app, enabled=False, connection=app.connection())
    producer = SimpleNamespace(publish=lambda event, **_: sent.append(event), sluice_agent_publication=publication)
    dispatcher.publish("task-sent", fields, producer)
    assert (fields.get(AGENT), fields.get(CREATED_AT)) == ((CONNECTION_ID, STARTED) if is_marked else (None, None))
    assert sent[0].get(AGENT) == fields.get(AGENT)


@pytest.mark.parametrize("can_keep", [True, False])
def test_the_reply_to_stats_has_the_agent(can_keep: bool) -> None:
    """A monitor that starts later than the worker would report its jobs until the next event."""
    marks(can_keep=can_keep)
    info = SimpleNamespace(info=lambda _: {})
    reply = WorkController.stats(
        SimpleNamespace(info=dict, blueprint=info, consumer=SimpleNamespace(blueprint=info), rusage=dict)
    )
    assert reply[AGENT][CONNECTION] == CONNECTION_ID
    assert reply[AGENT][REPORTS] is can_keep
