"""A log of the events that a process captures, in a file that a test's faults don't touch: one line an event.

An event is logged after the agent has captured it. A process that is killed in between has captured an unlogged event.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

CAPTURE_LOG = "TEST_CAPTURE_LOG"
"""The variable that names the file; unset: nothing is logged."""

_EVENT_ID = re.compile(rb'"eventId":"([^"]+)"')


def start() -> None:
    """Log the events that this process captures from now on. Call it before `sluice_agent.install()`."""
    if not os.environ.get(CAPTURE_LOG):
        return
    from sluice_agent.agent import Agent

    log = os.open(os.environ[CAPTURE_LOG], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    capture = Agent.capture

    def capture_and_log(self: Agent, event: bytes) -> None:
        capture(self, event)
        match = _EVENT_ID.search(event)
        assert match is not None, event
        os.write(log, match[1] + b"\n")

    Agent.capture = capture_and_log  # type: ignore[method-assign]


def captured_ids(env: Mapping[str, str]) -> list[str] | None:
    """Return the ids of the events that the processes of `env` captured; None if they keep no log."""
    if not env.get(CAPTURE_LOG):
        return None
    file = Path(env[CAPTURE_LOG])
    return file.read_text().split() if file.exists() else []
