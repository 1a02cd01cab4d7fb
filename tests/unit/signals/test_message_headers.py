"""Values that callers and apps put into a message or a task, and their form in an event."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.signals.agent_header import read_header
from sluice_agent.signals.message_headers import facts_of, max_retries_of
from sluice_agent.signals.queue_name import queue_of
from tests.support.wire import faults

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
OWN_ID = uuid.UUID("0c1e2b3a-0000-4000-8000-000000000001")
app = Celery("facts", set_as_current=False)


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"id": OWN_ID, "root_id": OWN_ID, "parent_id": OWN_ID}, {"externalId": str(OWN_ID), "parentId": None}),
        ({"id": 123}, {"externalId": "123"}),
        ({"expires": datetime.max.isoformat()}, {"expires": "9999-12-31T23:59:59.000000Z"}),
        ({"eta": "0001-01-01T00:00:00+14:00"}, {"eta": "0001-01-01T00:00:00.000000Z"}),
        ({"stamps": "x"}, {"stamps": None}),
        ({"stamps": {"a": [1, "x"]}}, {"stamps": {"a": [1, "x"]}}),
        ({"stamps": {"a": b"\xff"}}, {"stamps": {"a": "b'\\xff'"}}),
        ({"stamps": {"a": app}}, {"stamps": {"a": "<Celery>"}}),
        ({"stamps": {"a": "x" * 10**6}}, {"stamps": {"a": "x" * 1_000 + "…[999000 characters cut]"}}),
    ],
)
def test_any_job_that_celery_runs_is_reported(headers: dict[str, Any], fields: dict[str, Any]) -> None:
    """Without it a job is lost because of a header that Celery itself accepts."""
    facts = facts_of({"id": "job-1", **headers}, {}, name="app.add", queue="q")
    event = json.loads(JobEvents(CONNECTION, facts).event(transitions.QUEUED, "2026-02-27T10:00:00.000000Z"))
    assert faults(event) == []
    job = {**event["job"].pop("extensions"), **event["job"]}
    assert {name: job.get(name) for name in fields} == fields


HEADERS = (
    *("root_id", "parent_id", "group", "eta", "expires", "stamps", "is_eager", "periodic_task_name", "delivery_info"),
    *("shadow", "retries", "headers", "replaced_task_nesting", "sluice_agent"),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.datetimes() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
deliveries = st.fixed_dictionaries({}, optional=dict.fromkeys(("exchange", "routing_key", "priority"), anything))


@given(st.dictionaries(st.sampled_from(HEADERS), anything, max_size=4), deliveries | anything)
def test_any_value_of_a_header(headers: dict[str, Any], delivery: Any) -> None:
    """Clients in other languages write any value there, and Celery runs their jobs all the same."""
    headers = {"delivery_info": delivery, **headers, "id": "job-1"}
    facts = facts_of(headers, read_header(headers), name="app.add", queue=queue_of(app, delivery))
    event = json.loads(JobEvents(CONNECTION, facts).event(transitions.QUEUED, "2026-02-27T10:00:00.000000Z"))
    assert faults(event) == []


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 3),
        ({"max_retries": 0}, 0),
        ({"max_retries": None}, None),
        ({"max_retries": False}, None),
        ({"max_retries": -1}, None),
        ({"max_retries": float("inf")}, None),
        ({"autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": 5}}, 5),
        ({"autoretry_for": (ValueError,), "retry_kwargs": {"countdown": 5}}, 3),
    ],
)
def test_how_often_a_task_is_retried(options: dict[str, Any], limit: int | None) -> None:
    """It is copied into the line unchanged: a value that is not a number would have the event refused."""

    def run() -> None: ...

    assert max_retries_of(app.task(run, name=f"facts.{options}", **options)) == limit


def test_an_unknown_task() -> None:
    """A worker receives jobs of those too."""
    assert max_retries_of(None) is None
