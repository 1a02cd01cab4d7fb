"""Validation as a server applies the contract: nothing is corrected, and nothing of a batch is lost for one event."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.validation import parse_batch, parse_event
from tests.support.wire import faults

ENVELOPE = {"timestamp": "2026-01-01T00:00:00.000000Z", "framework": "celery", "connectionId": str(uuid.uuid4())}
SUBJECTS: dict[str, dict[str, Any]] = {
    "job": {"externalId": "id", "name": "app.add", "state": "queued"},
    "worker": {"externalId": "celery@a", "hostname": "a", "state": "online"},
    "queue": {"name": "celery", "depth": 0},
}
TYPES = {"job": "job_state_change", "worker": "worker_state_change", "queue": "queue_snapshot"}
WORKER = SUBJECTS["worker"]


def event(subject: str = "job", **fields: Any) -> dict[str, Any]:
    """Return an event about `subject`, changed by `fields`."""
    return {**ENVELOPE, "type": TYPES[subject], subject: {**SUBJECTS[subject], **fields}}


BAD = {
    "text too long": event(name="x" * 1025),
    "lone surrogate": event(name="\ud800"),
    "null": event(queue=None),
    "empty id": event(externalId=""),
    "snake_case": event(external_id="id"),
    "unknown field": event(colour="red"),
    "unknown state": event(state="done"),
    "a number as text": event(attempt="1"),
    "a boolean as number": event(attempt=True),
    "a fraction as integer": event("queue", depth=1.5),
    "progress as text": event(progress="0.5"),
    "a number as name": event(name=1),
    "a number in queues": event("worker", queues=[1]),
    "pid as text": event("worker", pid="1"),
    "extensions as list": event(extensions=[]),
    "null in the event": {**event(), "worker": None},
    "no framework": {name: value for name, value in event().items() if name != "framework"},
    "29 February of no leap year": event(startedAt="2025-02-29T10:00:00Z"),
    "another type than the subject": {**event(), "type": "queue_snapshot"},
    "an empty type": {**event(), "type": ""},
    "attempt 0": event(attempt=0),
    "progress 2": event(progress=2),
    "progress NaN": event(progress=float("nan")),
    "offset for Z": {**event(), "timestamp": "2026-01-01T00:00:00+00:00"},
    "no zone": {**event(), "timestamp": "2026-01-01T00:00:00"},
    "a newline behind it": {**event(), "timestamp": "2026-01-01T00:00:00Z\n"},
    "digits of another script": {**event(), "timestamp": "٢٠٢٦-01-01T00:00:00Z"},
    "month 13": {**event(), "timestamp": "2026-13-01T00:00:00Z"},
    "no UUID": {**event(), "connectionId": "mine"},
    "unknown framework": {**event(), "framework": "rq"},
    "two payloads": {**event(), "worker": WORKER},
    "no payload": {**ENVELOPE, "type": "queue_snapshot"},
    "a list": [event()],
    "negative depth": event("queue", depth=-1),
    "no hostname": event("worker", hostname=None),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_server_refuses_an_event_that_the_contract_does_not_allow(bad: Any) -> None:
    """A local Sluice that corrects an event which the vendor refuses would let a fault through to production."""
    with pytest.raises(ValueError, match=r"."):
        parse_event(bad)


@pytest.mark.parametrize("good", [event(), event("worker", queues=["a"], metadata={"x": None}), event("queue")])
def test_a_server_accepts_an_event_that_the_contract_allows(good: dict[str, Any]) -> None:
    """A local Sluice that refuses a valid event reports a fault that does not exist."""
    assert faults(good) == []
    assert parse_event(good) == good


NUL_BODY = json.dumps(
    {
        "events": [
            event(externalId="i\0", name="n\0", queue="q\0", workerId="w\0", error="e\0", extensions={"rootId": "r\0"}),
            event("worker", externalId="w\0", hostname="h\0", queues=["q\0"]),
            event("queue", name="q\0"),
            event(extensions={"rootId": 1, "args": ["a\0"]}),
        ]
    }
).encode()


def test_a_name_with_nul_has_an_address() -> None:
    """Each link to such a task, queue or worker would lead to an error."""
    first, worker, queue, last = parse_batch(NUL_BODY).events
    job = first["job"]
    assert [job[name] for name in ("externalId", "name", "queue", "workerId")] == ["i␀", "n␀", "q␀", "w␀"]
    assert (job["error"], job["extensions"]) == ("e\0", {"rootId": "r␀"})
    assert (worker["worker"]["externalId"], worker["worker"]["queues"], queue["queue"]["name"]) == ("w␀", ["q␀"], "q␀")
    assert last["job"]["extensions"] == {"rootId": 1, "args": ["a\0"]}  # what is sent again is as it came


@pytest.mark.parametrize("number", [2**63, 10**400])
def test_a_number_that_no_column_holds_is_refused(number: int) -> None:
    """One such event would otherwise make the server fail, and its client send the same batch for ever."""
    for odd in (event("queue", depth=number), event("worker", activeJobs=number), event(attempt=number)):
        batch = parse_batch(json.dumps({"events": [odd, event()]}).encode())
        assert (len(batch.events), len(batch.faults)) == (1, 1)
    assert parse_event(event("queue", depth=2**63 - 1))
    assert parse_event(event("worker", pid=number, concurrency=number))
    assert parse_event(event(maxRetries=number))  # some apps set the largest number that there is


@pytest.mark.parametrize("name", ["job_progress", "job.progress", "JobRetried", "task-retried", "x"])
def test_a_type_that_the_contract_does_not_list_is_accepted(name: str) -> None:
    """The vendor's clients may send further types, and their users would lose those events."""
    accepted = parse_event({**event(), "type": name})
    assert accepted["type"] == name.replace(".", "_")


def test_a_fault_names_the_event_the_field_and_not_the_value() -> None:
    """Without its place a fault can't be found; with the value, secrets of jobs would be in the log."""
    body = json.dumps({"events": [event(), event(attempt="secret")]}).encode()
    batch = parse_batch(body)
    assert batch.events == [event()]
    assert batch.faults == ["event 1: job.attempt: Input should be a valid integer"]


@pytest.mark.parametrize("text", ["\\ud800", "x" * 10 + "\\udfff"])
def test_a_lone_surrogate_costs_no_other_event(text: str) -> None:
    """One file name that is not UTF-8 in an argument would otherwise lose all that travels with it."""
    body = json.dumps({"events": [event(extensions={"odd": "TEXT"}), event("queue")]}).replace("TEXT", text)
    batch = parse_batch(body.encode())
    assert batch.faults == []
    assert batch.events[0]["job"]["extensions"]["odd"].encode()  # is valid UTF-8
    assert batch.events[1] == event("queue")


def test_a_number_of_thousands_of_digits_does_not_affect_the_other_events() -> None:
    """A large number among some captured arguments would otherwise lose all events that travel with it."""
    body = json.dumps({"events": [event(extensions={"args": ["N"]}), event(attempt="N"), event("queue")]})
    batch = parse_batch(body.replace('"N"', "9" * 5_000).encode())
    assert [stored.get("job", {}).get("extensions") for stored in batch.events] == [{"args": [None]}, None]
    assert [fault.partition(":")[0] for fault in batch.faults] == ["event 1"]


@pytest.mark.parametrize(
    "odd", ["1e999", "-1e999", pytest.param("9" * 5_000, id="digits"), '"\\ud800"', '[{"a": [1e999]}, "\\ud800"]']
)
@pytest.mark.parametrize("place", ["args", "headers"])
def test_a_call_that_is_not_stored_as_it_was_is_not_whole(odd: str, place: str) -> None:
    """A job would be sent again with null in place of an infinite number, or a text in place of another."""
    extensions = {
        "args": ["ARGS"],
        "argsWhole": True,
        "message": {"serializer": "json", "headers": {"n": "HEADERS"}, "headersWhole": True},
    }
    body = json.dumps({"events": [event(extensions=extensions)]}).replace(f'"{place.upper()}"', odd)
    [stored] = parse_batch(body.encode()).events
    assert "argsWhole" not in stored["job"]["extensions"]
    assert "headersWhole" not in stored["job"]["extensions"]["message"]
    [stored] = parse_batch(json.dumps({"events": [event(extensions=extensions)]}).encode()).events
    assert stored["job"]["extensions"] == extensions


def test_an_event_of_any_depth_costs_no_other_event() -> None:
    """One deep argument would otherwise make its whole batch fail for ever."""
    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    batch = parse_batch(json.dumps({"events": [event(extensions={"deep": deep}), event("queue")]}).encode())
    assert batch.events == [event("queue")]
    assert len(batch.faults) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"events": {}}', b'{"events": [], "more": 1}', b'{"events": [NaN]}'])
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    """A broken client would otherwise see a crash, or worse, success."""
    with pytest.raises(RefusedError) as refusal:
        parse_batch(body)
    assert refusal.value.status == 400


def test_a_batch_of_more_events_than_can_be_valid_is_refused() -> None:
    """Millions of numbers fit in a body: each would be validated, and other clients would wait."""
    with pytest.raises(RefusedError) as refusal:
        parse_batch(b'{"events": [' + b"1," * 40_000 + b"1]}")
    assert refusal.value.status == 413


def test_an_event_with_very_many_faults_is_described_in_a_few_words() -> None:
    """A hundred thousand unknown fields would take hundreds of megabytes, and a line of the log that long."""
    fields = {f"field{number}": 1 for number in range(100)}
    (fault,) = parse_batch(json.dumps({"events": [event() | fields]}).encode()).faults
    assert fault == "event 0: 100 fields are not valid"
