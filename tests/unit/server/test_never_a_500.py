"""No request makes the server fail: every parameter, path and body, with odd values."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.unit.server.events import ingest, job_event

fuzz = settings(
    max_examples=examples(40),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

ODD_NUMBERS = [0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400]
ODD_TEXTS = [
    "",
    "\0",
    "\ud800",
    "é",
    "%",
    "\\",
    "_",
    "x" * 10_000,
    "٣",
    "1e999",
    "NaN",
    "null",
    "\r\n",
    "😀",
    "%00",
    "'",
]
COLUMNS = [
    "createdAt", "stateChangedAt", "startedAt", "completedAt", "durationMs", "name", "queue", "state",
]  # fmt: skip

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(st.characters(exclude_categories=[]), max_size=30))
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers())
values = st.recursive(
    st.one_of(texts, numbers, st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
PARAMETERS = [
    "cursor", "limit", "search", "state", "queue", "worker", "connectionId", "framework", "sortBy", "sortOrder", "more",
]  # fmt: skip


def cursor_of(position: Any) -> str:
    """Return a cursor in the server's format, of a position that the client has invented."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def percent_encoded(text: str) -> str:
    """Return `text` with every byte percent-encoded; a lone surrogate as the bytes that it would have."""
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogatepass"))


@pytest.mark.parametrize("value", [*ODD_NUMBERS, *ODD_TEXTS], ids=lambda value: repr(value)[:12])
def test_an_odd_cursor_is_an_error_of_the_client(client: httpx.Client, value: Any) -> None:
    """A user who edits an address would otherwise read that the server failed."""
    ingest(client, *(job_event("active", n, externalId=f"j{n}") for n in range(3)))
    for column in ("durationMs", "name"):
        for position in ([column, "desc", value, "job"], [column, "desc", "x", value], [column, "desc", 1, value]):
            response = client.get("/jobs", params={"cursor": cursor_of(position), "sortBy": column})
            assert response.status_code in {200, 400}, response.text


@fuzz
@given(
    names=st.dictionaries(st.sampled_from(PARAMETERS), texts | numbers.map(str), max_size=4),
    column=st.sampled_from(COLUMNS),
)
def test_any_parameter_can_be_sent(client: httpx.Client, names: dict[str, str], column: str) -> None:
    """A link that was cut or guessed would otherwise look like a broken server."""
    query = "&".join(f"{name}={percent_encoded(value)}" for name, value in {"sortBy": column, **names}.items())
    response = client.get(f"/jobs?{query[:15_000]}")
    assert response.status_code in {200, 400}, response.text


@fuzz
@given(path=texts, method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]))
def test_any_path_can_be_asked_for(client: httpx.Client, path: str, method: str) -> None:
    """A scanner, or a task id with odd letters, would otherwise fill the log with tracebacks."""
    for prefix in ("/jobs/", "/", "/ingest", "/health"):
        response = client.request(method, f"{prefix}{percent_encoded(path)[:15_000]}")
        assert response.status_code < 500, response.text
        if response.status_code >= 400 and method != "HEAD":
            assert set(response.json()["error"]) >= {"code", "message", "docs_url"}


@fuzz
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                "externalId",
                "name",
                "queue",
                "workerId",
                "attempt",
                "maxRetries",
                "progress",
                "error",
                "stacktrace",
                "createdAt",
                "startedAt",
                "completedAt",
                "state",
                "extensions",
                "tags",
            ]
        ),
        values,
        max_size=3,
    ),
    extensions=st.dictionaries(
        st.sampled_from(["eventId", "eta", "tags", "args", "result", "parentId", "rootId", "redelivered", "runtime"]),
        values,
    ),
)
def test_any_event_can_be_sent_and_read_back(
    client: httpx.Client, changes: dict[str, Any], extensions: dict[str, Any]
) -> None:
    """A job that was accepted and can't be shown would otherwise make its whole list fail."""
    event = job_event("active", 0, extensions=extensions)
    event["job"] |= changes
    content = json.dumps({"events": [event]})
    response = client.post("/ingest", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    assert response.json()["accepted"] + response.json()["rejected"] + response.json()["skipped"] == 1
    assert client.get("/jobs").status_code == 200
    for job in client.get("/jobs", params={"limit": 3}).json()["data"]:
        assert client.get(f"/jobs/{job['id']}").status_code == 200


@pytest.mark.parametrize("closing", ["]", "}"])
def test_any_depth_is_accepted_or_refused(client: httpx.Client, closing: str) -> None:
    """One deep argument would otherwise make its whole batch fail for ever."""
    opening = "[" if closing == "]" else '{"a":'
    for depth in [*range(1, 1200, 40), 5_000, 100_000]:
        event = json.dumps(job_event("active", 0, externalId=f"deep-{depth}", extensions={"odd": "ODD"}))
        content = f'{{"events": [{event}]}}'.replace('"ODD"', opening * depth + "1" + closing * depth)
        response = client.post("/ingest", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in {200, 400}, (depth, response.text)
        if response.status_code == 200 and response.json()["accepted"]:
            assert client.get(f"/jobs/deep-{depth}").status_code == 200, depth


@pytest.mark.parametrize(
    "body",
    [
        b'{"events": [], "events": []}',
        b'{"events": [{"type": "job_state_change", "type": "x", "job": {}, "job": []}]}',
        '{"events": []}'.encode("utf-16"),
        '{"events": []}'.encode("utf-32"),
        b'{"events": ["\xed\xa0\x80"]}',
        b'{"\xed\xa0\x80": []}',
        b'{"events": [{"\\ud800": 1}]}',
        b'{"events": [1e999, -1e999, 1e-999]}',
        b"\xef\xbb\xbf{}",
        b"\0",
    ],
)
def test_odd_json_is_accepted_or_refused(client: httpx.Client, body: bytes) -> None:
    """A client with an unusual encoder would otherwise see the server fail, and retry the same request for ever."""
    response = client.post("/ingest", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {200, 400}, response.text
