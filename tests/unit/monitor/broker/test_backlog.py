"""Messages that are read ahead of decoding."""

from __future__ import annotations

import json

import pytest
from kombu.serialization import dumps, prepare_accept_content

from sluice_agent.monitor.broker.backlog import Backlog, Raw, events_in

JSON = prepare_accept_content({"json"})
EVENTS = [{"type": "task-started", "uuid": f"job-{number}", "hostname": "celery@one"} for number in range(24)]


def raw(body: bytes, content_type: str = "application/json", encoding: str = "utf-8") -> Raw:
    return Raw(body, content_type, encoding, None, 0.0)


def test_a_storm_takes_a_fraction_of_its_size_and_drops_nothing() -> None:
    """Otherwise the container is killed for its memory in the very minute in which users need it."""
    body, backlog = json.dumps(EVENTS).encode(), Backlog()
    messages = 5_000_000 // len(body)
    for _ in range(messages):
        backlog.add(raw(body))
    assert backlog.bytes < 2_000_000
    assert len(backlog) == messages
    while backlog:
        assert list(events_in(backlog.take(), JSON)) == EVENTS
    assert backlog.bytes == 0


def test_any_serialiser_that_is_accepted_is_read() -> None:
    """A cluster may have another `event_serializer` than JSON, and kombu's JSON encodes types that JSON lacks."""
    import datetime

    eta = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    content_type, encoding, body = dumps({"type": "task-sent", "eta": eta}, "json")
    assert list(events_in(raw(body.encode(), content_type, encoding), JSON)) == [{"type": "task-sent", "eta": eta}]
    content_type, encoding, body = dumps(EVENTS, "yaml")
    assert (
        list(events_in(raw(body.encode(), content_type, encoding), prepare_accept_content({"yaml", "json"}))) == EVENTS
    )


@pytest.mark.parametrize("serialiser", ["pickle", "yaml"])
def test_a_serialiser_that_is_not_accepted_is_refused(serialiser: str) -> None:
    """A pickle runs any code that its sender chooses."""
    content_type, encoding, body = dumps(EVENTS, serialiser)
    with pytest.raises(Exception, match="Refusing"):
        list(events_in(raw(body if isinstance(body, bytes) else body.encode(), content_type, encoding), JSON))
