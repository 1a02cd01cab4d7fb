"""The model: limits, cutting, text that is not UTF-8, as an agent builds events."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sluice_agent.event import Event, Job, Queue, Worker
from sluice_agent.model import cut_to, encode
from tests.support.examples import examples
from tests.support.wire import body_faults, faults

AT = "2026-01-01T00:00:00.000000Z"
ENVELOPE = {"timestamp": AT, "framework": "celery", "connectionId": str(uuid.uuid4())}
JOB = {"externalId": "id", "name": "app.add", "state": "queued"}
WORKER = {"externalId": "celery@a", "hostname": "a", "state": "online"}
QUEUE = {"name": "celery", "depth": 0}
LIMITS = {
    ("job", "externalId"): 512,
    ("job", "name"): 1024,
    ("job", "queue"): 255,
    ("job", "workerId"): 512,
    ("job", "error"): 10_000,
    ("job", "stacktrace"): 50_000,
    ("queue", "name"): 255,
}
TEXTS = [*LIMITS, ("worker", "externalId"), ("worker", "hostname")]

any_text = st.text(st.characters(), min_size=1, max_size=30)  # lone surrogates included
long_text = st.builds(lambda text, times: text * times, any_text, st.integers(1, 60_000 // 30))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


def event(payload: str = "job", **changes: Any) -> dict[str, Any]:
    kind = {"job": "job_state_change", "worker": "worker_state_change", "queue": "queue_snapshot"}[payload]
    content = {"job": JOB, "worker": WORKER, "queue": QUEUE}[payload]
    return {"type": kind, **ENVELOPE, payload: {**content, **changes}}


def wire(made: dict[str, Any]) -> dict[str, Any]:
    return Event.model_validate(made).to_wire()


def body(line: bytes) -> bytes:
    return b'{"events":[' + line + b"]}"


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=examples(150), deadline=None)
@given(st.sampled_from(TEXTS), long_text)
def test_any_text_in_any_field_comes_out_valid(field: tuple[str, str], text: str) -> None:
    """One job with a strange name would have the whole batch refused, and 499 others' events with it."""
    payload, name = field
    assert body_faults(body(Event.model_validate(event(payload, **{name: text})).to_json())) == []


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=examples(150), deadline=None)
@given(st.dictionaries(any_text, anything, max_size=4), st.lists(any_text, max_size=3))
def test_any_value_of_an_open_field_comes_out_valid(values: dict[str, Any], queues: list[str]) -> None:
    """Captured arguments may hold anything, NaN and half a surrogate pair included; the batch must still be JSON."""
    for made in (event(extensions=values), event("worker", metadata=values, queues=queues)):
        assert body_faults(body(Event.model_validate(made).to_json())) == []


@settings(max_examples=examples(50), deadline=None)
@given(st.dictionaries(any_text, anything, max_size=4))
def test_an_event_encoded_without_the_model_is_valid(values: dict[str, Any]) -> None:
    """Nearly every event of a job is encoded without the model: the same guarantee is needed there."""
    assert body_faults(body(encode(event(extensions=values)))) == []


@pytest.mark.parametrize(("field", "limit"), LIMITS.items())
def test_a_text_is_cut_at_its_limit_and_not_before(field: tuple[str, str], limit: int) -> None:
    """Cut too late the event is refused, cut too early the end of a traceback is lost."""
    payload, name = field
    whole, cut = (
        Event.model_validate(event(payload, **{name: "x" * size})).to_wire()[payload][name]
        for size in (limit, limit + 1)
    )
    assert whole == "x" * limit
    assert limit - 4 <= len(cut) <= limit  # the mark has room for its largest count
    assert "characters cut]" in cut


def test_no_field_of_text_is_without_its_limit_here() -> None:
    """A limit that is missing above is not tested."""
    limited = {
        (payload, name)
        for payload, model in {"job": Job, "worker": Worker, "queue": Queue}.items()
        for name, schema in model.model_json_schema()["properties"].items()
        if "maxLength" in json.dumps(schema)
    }
    assert limited == set(LIMITS)


@given(st.text(max_size=400), st.integers(40, 300), st.booleans())
def test_a_cut_text_shows_how_much_is_missing(text: str, limit: int, keep_end: bool) -> None:
    """A text that was cut without a mark, or with a wrong count, misleads the developer who debugs with it."""
    cut = cut_to(text, limit, keep_end=keep_end)
    assert len(cut) <= limit
    if len(text) <= limit:
        assert cut == text
    else:
        start, _, rest = cut.rpartition("…[")
        count, _, end = rest.partition(" characters cut]")
        assert text.startswith(start)
        assert text.endswith(end)
        assert len(start) + len(end) + int(count) == len(text)


def test_a_long_traceback_keeps_both_ends() -> None:
    """The error's own line is at the end of a traceback, the task's call at its beginning."""
    cut = wire(event(stacktrace="BEGIN" + "x" * 60_000 + "END"))["job"]["stacktrace"]
    assert cut.startswith("BEGIN")
    assert cut.endswith("END")


def test_a_lone_surrogate_is_written_out() -> None:
    """A text that UTF-8 can't carry would otherwise cost the event."""
    assert wire(event(name="a\ud800b"))["job"]["name"] == "a\\ud800b"


@pytest.mark.parametrize("value", [None, 1, "\udfff", {"\ud800": None}, ["\ud800"]])
def test_a_lone_surrogate_in_a_key_costs_no_event(value: Any) -> None:
    """Captured arguments have the user's own keys, at any depth."""
    made = event(extensions={"0": {"\ud800": value}})
    assert body_faults(body(Event.model_validate(made).to_json())) == []
    assert body_faults(body(encode(made))) == []


def test_the_wire_has_camel_case_and_no_null() -> None:
    """The vendor's validation refuses a name in snake_case, and null where absent is asked for."""
    job = Job(external_id="id", name="n", state="active", previous_state="queued", worker_id="w", max_retries=3)
    made = Event(type="job_state_change", timestamp=AT, connection_id=ENVELOPE["connectionId"], job=job).to_wire()
    assert faults(made) == []
    assert made == event(name="n", state="active", previousState="queued", workerId="w", maxRetries=3)
    assert b"null" not in encode(made)


def test_an_invalid_event_is_not_repaired() -> None:
    """An event without an id can't be repaired: to send it would have it refused, to invent one would mislead."""
    with pytest.raises(ValidationError):
        wire(event(externalId=""))
    with pytest.raises(ValidationError):
        wire({**event(), "worker": WORKER})
    with pytest.raises(ValidationError):
        wire({name: value for name, value in event().items() if name != "job"})
