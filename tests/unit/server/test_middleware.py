"""What the server does where it fails itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice_agent import log
from sluice_agent.server.middleware import ServerMiddleware


async def fail(scope: Any, _receive: Any, send: Any) -> None:
    if scope["path"] == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    kind = {"/a": ValueError, "/late": OSError}.get(scope["path"], KeyError)
    raise kind("no")


def statuses_of(*paths: str) -> list[int]:
    """Return the statuses of requests at which the server fails."""
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def request(path: str) -> None:
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await ServerMiddleware(fail)(scope, None, send)  # type: ignore[arg-type]

    for path in paths:
        asyncio.run(request(path))
    return statuses


def test_a_fault_that_each_request_triggers_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A page that reloads itself would fill the disk with stacks, in which the other faults are not found."""
    assert statuses_of("/a", *["/b"] * 3, *["/a"] * 3, "/late", "/late") == [500] * 7 + [200] * 2
    lines = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    assert lines == [("GET /a failed", True), ("GET /b failed", True), ("GET /late failed", True)]
    caplog.clear()
    for subject in log.last_logged:
        log.last_logged[subject] -= 61
    statuses_of("/a", "/b")
    assert ["3 more failures" in record.getMessage() for record in caplog.records] == [True, False]
    assert "2 more failures" in caplog.records[1].getMessage()
