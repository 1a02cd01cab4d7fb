"""The message of a retry, from a job's record and its captured call."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.server.actions.broker import StoredCall
from sluice_agent.server.actions.retry import retry_of
from sluice_agent.server.errors import RefusedError

WHOLE = {"args": [1, "a"], "kwargs": {"b": [2]}, "argsWhole": True, "message": {"serializer": "json"}}
STORED = StoredCall("shop.send", [3], {"c": 4})


def record(extensions: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return the record of a failed job."""
    return {
        "externalId": "job",
        "framework": "celery",
        "name": "shop.send",
        "queue": "emails",
        "state": "failed",
        "parentId": None,
        "rootId": "job",
        "extensions": {"priority": 5, **(extensions or {})},
        **fields,
    }


def test_a_call_that_was_captured_whole_is_sent_as_it_was() -> None:
    """A retry with another queue, priority, limit or header would do something else than the job that failed."""
    options = {
        "serializer": "yaml", "timeLimit": 30, "softTimeLimit": 20.5, "ignoreResult": True,
        "headers": {"tenant": "a"}, "headersWhole": True,
    }  # fmt: skip
    retry = retry_of(record({"stamps": {"s": ["1"]}, **WHOLE, "message": options}), None)
    message = retry.message
    assert (message.name, message.args, message.kwargs, message.queue) == ("shop.send", [1, "a"], {"b": [2]}, "emails")
    assert (message.serializer, message.priority, message.time_limit, message.soft_time_limit) == ("yaml", 5, 30, 20.5)
    assert (message.ignore_result, message.headers, message.stamps) == (True, {"tenant": "a"}, {"s": ["1"]})
    assert retry.notes == ()
    assert retry.call == WHOLE | {"message": options}


def test_a_job_under_another_name_runs_its_own_task() -> None:
    """A worker knows no task of the name that was shown."""
    message = retry_of(record({"taskName": "shop.real", **WHOLE}), None).message
    assert (message.name, message.shadow) == ("shop.real", "shop.send")


def test_arguments_come_from_the_result_backend_if_they_are_not_whole() -> None:
    """A job with a redacted argument could not be retried, though Celery has kept it. It must not be captured again."""
    captured = {"args": ["[redacted]"], "kwargs": {}, "message": {"serializer": "json", "timeLimit": 9}}
    retry = retry_of(record(captured), STORED)
    assert (retry.message.args, retry.message.kwargs, retry.message.time_limit) == ([3], {"c": 4}, 9)
    assert not {"args", "kwargs", "argsWhole"} & retry.call.keys()
    unknown = retry_of(record(), STORED)
    assert unknown.message.args == [3]
    assert "SLUICE_CAPTURE_ARGS=1" in unknown.notes[-1]


@pytest.mark.parametrize(
    ("fields", "captured", "stored", "reason"),
    [
        ({}, {}, None, "SLUICE_CAPTURE_ARGS=1"),
        ({}, {}, StoredCall("other.task", [1], {}), "SLUICE_CAPTURE_ARGS=1"),
        ({}, {"args": "(1, 2)", "kwargs": "{}"}, None, "not captured whole"),
        ({}, {**WHOLE, "argsWhole": "true"}, None, "not captured whole"),
        ({}, {**WHOLE, "args": "(1, 2)"}, None, "not a list"),
        ({"queue": None}, WHOLE, None, "its queue is not known"),
        ({"framework": "sidekiq"}, WHOLE, None, "sidekiq"),
        ({"name": "unknown"}, WHOLE, None, "name of its task"),
        ({}, {key: WHOLE[key] for key in ("args", "kwargs", "argsWhole")}, None, "options are not known"),
        ({}, WHOLE | {"message": {"headers": {"a": "[redacted]"}, "headersWhole": False}}, None, "headers"),
        ({}, WHOLE | {"message": {"headers": {"a": "b"}}}, None, "headers"),
        ({}, {"message": {"headersWhole": False}}, STORED, "headers"),
        ({}, WHOLE | {"message": {"serializer": 1}}, None, "serializer"),
        ({}, WHOLE | {"message": {"timeLimit": "soon"}}, None, "timeLimit"),
        ({}, WHOLE | {"priority": 10**30}, None, "priority"),
    ],
)
def test_a_job_is_refused_with_the_reason(
    fields: dict[str, Any], captured: dict[str, Any], stored: StoredCall | None, reason: str
) -> None:
    """A retry would run with other arguments, in another queue, or without its headers; or nobody knows what to do."""
    with pytest.raises(RefusedError, match=reason) as refused:
        retry_of(record(captured, **fields), stored)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("fields", "captured", "note"),
    [
        ({}, WHOLE | {"message": {"canvas": ["chain"]}}, "chain"),
        ({}, WHOLE | {"message": {"canvas": ["chord"]}}, "chord"),
        ({}, WHOLE | {"groupId": "group"}, "group"),
        ({"rootId": "root"}, WHOLE, "canvas"),
        ({"parentId": "parent"}, WHOLE, "canvas"),
        ({}, WHOLE | {"expires": "2026-02-27T10:00:00Z"}, "expiry"),
    ],
)
def test_what_does_not_follow_a_retry_is_said(fields: dict[str, Any], captured: dict[str, Any], note: str) -> None:
    """Somebody would wait for the rest of a chain that never comes."""
    retry = retry_of(record(captured, **fields), None)
    assert any(note in text for text in retry.notes)
    assert "canvas" not in retry.call["message"]
