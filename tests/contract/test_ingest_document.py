"""The document of ``POST /api/ingest``, field by field: each row of its tables against a real server."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.contract.documents import Field, tables
from tests.support.local_sluice import LocalSluice

EVENT, JOB, WORKER, QUEUE, RESPONSE = tables("ingest")
STATE = next(field for field in JOB if field.name == "state")
JOB = [
    dataclasses.replace(field, description=STATE.description) if field.name == "previousState" else field
    for field in JOB
]
SUBJECTS = {"job": JOB, "worker": WORKER, "queue": QUEUE}
TYPES = {"job": "job_state_change", "worker": "worker_state_change", "queue": "queue_snapshot"}
TIME = "2026-02-27T10:30:00.000Z"
VALUES: dict[str, Any] = {"string": "text", "integer": 1, "number": 0.5, "object": {"a": 1}, "string[]": ["a", "b"]}
"""A valid value of each JSON type that the document names."""
WRONG: dict[str, list[Any]] = {
    "string": [1, True, None, ["text"], {}],
    "integer": ["1", True, 1.5, None, [1]],
    "number": ["0.5", True, None, [0.5]],
    "object": ["text", 1, True, None, []],
    "string[]": ["a", [1], {"a": "b"}, None, [None]],
}
"""Values of other JSON types, which a server must not convert."""
ROWS = [(None, field) for field in EVENT] + [(subject, field) for subject, rows in SUBJECTS.items() for field in rows]
FIELDS = [row for row in ROWS if row[1].name not in SUBJECTS]
ENUMERATED = [row for row in FIELDS if row[1].values]
_numbers = itertools.count()

Send = Callable[..., tuple[int, int]]


def names(rows: list[tuple[str | None, Field]]) -> list[str]:
    return [f"{subject or 'event'}.{field.name}" for subject, field in rows]


def value_of(field: Field) -> Any:
    """Return a valid value of `field`."""
    if field.is_time:
        return TIME
    return field.values[0] if field.values else VALUES[field.type]


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    """A client with the ingest key of the server's connection."""
    assert server.access.new_key is not None
    return server.client({"Authorization": f"Bearer {server.access.new_key.secret}"})


@pytest.fixture(scope="module")
def connection_id(server: LocalSluice) -> str:
    """The connection of the client's key."""
    assert server.access.connection is not None
    return server.access.connection.id


@pytest.fixture
def send(client: httpx.Client, connection_id: str) -> Send:
    """`send(subject, changes)` sends an event that is like no other, and returns how many were accepted and rejected.

    `changes` get the event and its subject, and may change both.
    """

    def send(subject: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> tuple[int, int]:
        fields = {field.name: value_of(field) for field in SUBJECTS[subject]}
        fields["externalId" if "externalId" in fields else "name"] = f"subject-{next(_numbers)}"
        event = {"type": TYPES[subject], "timestamp": TIME, "framework": "celery", "connectionId": connection_id}
        event = {**event, subject: copy.deepcopy(fields)}
        change(event, event[subject])
        response = client.post("/ingest", json={"events": [event]})
        assert response.status_code == 200, response.text
        return response.json()["accepted"], response.json()["rejected"]

    return send


def owner(subject: str | None, event: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return event if subject is None else fields


def test_the_tables_are_read_whole() -> None:
    """A document that the parser no longer understands would otherwise test nothing."""
    assert [len(table) for table in (EVENT, JOB, WORKER, QUEUE, RESPONSE)] == [7, 15, 8, 3, 5]
    limits = {(subject, field.name): field.limit for subject, field in ROWS if field.limit}
    assert limits == {
        ("job", "externalId"): 512,
        ("job", "name"): 1024,
        ("job", "queue"): 255,
        ("job", "workerId"): 512,
        ("job", "error"): 10_000,
        ("job", "stacktrace"): 50_000,
        ("queue", "name"): 255,
    }
    assert names(ENUMERATED) == ["event.framework", "job.state", "job.previousState", "worker.state"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_event_with_every_field_is_accepted(send: Send, subject: str) -> None:
    """A client that uses the whole contract would otherwise lose its events."""
    assert send(subject, lambda _event, _fields: None) == (1, 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row[1].limit], ids=lambda row: f"{row[0]}.{row[1].name}")
def test_a_text_is_accepted_up_to_its_limit(send: Send, row: tuple[str, Field]) -> None:
    """A limit that is lower loses events of the vendor's clients; a higher one hides what the vendor refuses."""
    subject, field = row
    assert field.limit is not None
    unique = f"{next(_numbers)}-"
    longest = unique + "é" * (field.limit - len(unique))  # characters, not bytes
    assert send(subject, lambda _, fields: fields.update({field.name: longest})) == (1, 0)
    assert send(subject, lambda _, fields: fields.update({field.name: longest + "x"})) == (0, 1)


@pytest.mark.parametrize("row", FIELDS, ids=names(FIELDS))
def test_a_field_may_be_absent_unless_it_is_required(send: Send, row: tuple[str | None, Field]) -> None:
    """A client that leaves out what it does not know would otherwise lose events."""
    subject, field = row
    expected = (0, 1) if field.is_required else (1, 0)
    assert send(subject or "job", lambda *parts: owner(subject, *parts).pop(field.name)) == expected


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_another_json_type_is_refused(send: Send, row: tuple[str | None, Field]) -> None:
    """A value that is converted here and refused by the vendor would let a fault through to production."""
    subject, field = row
    of = subject or (field.name if field.name in SUBJECTS else "job")
    for wrong in WRONG[field.type]:
        sent = send(of, lambda *parts, value=wrong: owner(subject, *parts).update({field.name: value}))
        assert sent == (0, 1), wrong


@pytest.mark.parametrize("row", ENUMERATED, ids=names(ENUMERATED))
def test_an_enumeration_takes_its_values_and_no_others(send: Send, row: tuple[str | None, Field]) -> None:
    """A state that is missing loses its events; one that is invented could not be shown."""
    subject, field = row
    for value in field.values:
        sent = send(subject or "job", lambda *parts, value=value: owner(subject, *parts).update({field.name: value}))
        assert sent == (1, 0), value
    for value in ("", "invented", field.values[0].upper()):
        sent = send(subject or "job", lambda *parts, value=value: owner(subject, *parts).update({field.name: value}))
        assert sent == (0, 1), value


@pytest.mark.parametrize(
    ("field", "accepted", "rejected"),
    [
        ("progress", [0, 0.0, 0.5, 1, 1.0], [-0.001, 1.001]),
        ("attempt", [1, 1000], [0, -1]),
        ("maxRetries", [0, 1], [-1]),
    ],
)
def test_a_number_is_accepted_within_its_range(
    send: Send, field: str, accepted: list[float], rejected: list[float]
) -> None:
    """The document gives these ranges in words."""
    for value, expected in [*((value, (1, 0)) for value in accepted), *((value, (0, 1)) for value in rejected)]:
        assert send("job", lambda _, fields, value=value: fields.update({field: value})) == expected, value


TIMES = [row for row in FIELDS if row[1].is_time]


@pytest.mark.parametrize("row", TIMES, ids=names(TIMES))
def test_a_time_is_a_date_of_the_calendar_in_utc(send: Send, row: tuple[str | None, Field]) -> None:
    """A time that can't be compared with others would put transitions into a wrong order."""
    subject, field = row
    for value in (TIME, "2026-02-27T10:30:00Z", "2026-02-27T10:30:00.123456Z", "2028-02-29T00:00:00.123456789Z"):
        assert send("job", lambda *parts, value=value: owner(subject, *parts).update({field.name: value})) == (1, 0)
    for value in ("", "2026-02-27", "2026-02-29T10:30:00Z", "2026-02-27T10:30:00+00:00", "2026-02-27 10:30:00Z", "now"):
        sent = send("job", lambda *parts, value=value: owner(subject, *parts).update({field.name: value}))
        assert sent == (0, 1), value


@pytest.mark.parametrize("subject", [None, *SUBJECTS])
def test_a_field_that_is_not_documented_is_refused(send: Send, subject: str | None) -> None:
    """A misspelt field would otherwise be lost without a trace."""
    of = subject or "job"
    assert send(of, lambda *parts: owner(subject, *parts).update(invented=1)) == (0, 1)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_extensions_and_metadata_take_anything(send: Send, subject: str) -> None:
    """The framework's own fields are not known to the contract."""
    anything = {"a": None, "b": [1, {"c": True}], "": "", "d": 1e300}
    for field in SUBJECTS[subject]:
        if field.type == "object":
            assert send(subject, lambda _, fields, name=field.name: fields.update({name: anything})) == (1, 0)


@pytest.mark.parametrize("separator", "_.:")
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_documented_type_needs_its_subject(send: Send, subject: str, separator: str) -> None:
    """A snapshot of a queue that is stored as a job would show a job that never was."""
    (types,) = (field.examples for field in EVENT if field.name == "type")
    assert types == list(TYPES.values())
    for name in (*types, "worker_heartbeat"):
        expected = (1, 0) if name.startswith(subject) else (0, 1)
        written = name.replace("_", separator, 1)
        assert send(subject, lambda event, _, written=written: event.update(type=written)) == expected, written


def test_a_type_beyond_the_examples_is_accepted_with_one_subject(send: Send) -> None:
    """The document lists types by way of example: a client of the vendor that sends another would lose those events."""
    assert send("job", lambda event, _: event.update(type="job.progress")) == (1, 0)
    assert send("job", lambda event, _: event.update(type="custom")) == (1, 0)
    assert send("job", lambda event, _: event.update(queue={"name": "q", "depth": 1})) == (0, 1)
    assert send("job", lambda event, _: event.pop("job")) == (0, 1)


def test_the_answer_has_the_documented_fields(client: httpx.Client) -> None:
    """A strict client would otherwise fail on the answer to its events."""
    answer = client.post("/ingest", json={"events": []}).json()
    assert list(answer) == [field.name for field in RESPONSE]
    for field in RESPONSE:
        assert isinstance(answer[field.name], int if field.type == "integer" else dict)


def test_a_connection_that_is_not_the_keys_is_refused(client: httpx.Client, connection_id: str) -> None:
    """Must match the authenticated API key's connection: one team could otherwise write the records of another."""
    event = {"type": "queue_snapshot", "timestamp": TIME, "framework": "celery", "queue": {"name": "q", "depth": 0}}
    other = "550e8400-e29b-41d4-a716-446655440000"
    own = {**event, "connectionId": connection_id.upper()}
    response = client.post("/ingest", json={"events": [own, {**event, "connectionId": other}]})
    assert response.status_code == 401
    error = response.json()["error"]
    assert (error["code"], error["docs_url"]) == ("UNAUTHORIZED", "https://docs.sluice.sh/troubleshooting/api-key")
    assert connection_id in error["message"]
    assert list(error["details"]) == ["connectionId"]
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert client.post("/ingest", json={"events": [own]}).json()["accepted"] == 1


def test_the_description_of_the_api_has_the_tables(server: LocalSluice) -> None:
    """A client that is generated from the description would otherwise send what is refused."""
    operation = server.client().get("/openapi.json").json()["paths"]["/api/ingest"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    event = body["properties"]["events"]["items"]["anyOf"][0]
    for subject, table in {None: EVENT, **SUBJECTS}.items():
        schema = event if subject is None else event["properties"][subject]
        assert not schema["additionalProperties"]
        assert schema["required"] == [field.name for field in table if field.is_required]
        assert list(schema["properties"]) == [field.name for field in table]
        for field in table:
            described = schema["properties"][field.name]
            assert field.type in (described["type"], "string[]")
            assert field.limit is None or described["maxLength"] == field.limit
            assert described.get("enum", []) == field.values
