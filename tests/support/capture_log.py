"""A witness of what a process captures, kept where no fault of a test reaches: one line an event, beside the journal.

An event is noted when the agent has taken it. A process that is killed in between has captured one that was not noted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

CAPTURE_LOG = "TEST_CAPTURE_LOG"
"""The variable that names the file; unset: nothing is noted."""

_EVENT_ID = re.compile(rb'"eventId":"([^"]+)"')


def start() -> None:
    """Note what this process captures from now on. Before `sluice_agent.install()`."""
    if not os.environ.get(CAPTURE_LOG):
        return
    from sluice_agent.agent import Agent

    note = os.open(os.environ[CAPTURE_LOG], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    capture = Agent.capture

    def capture_and_note(self: Agent, event: bytes) -> None:
        capture(self, event)
        found = _EVENT_ID.search(event)
        assert found is not None, event
        os.write(note, found[1] + b"\n")

    Agent.capture = capture_and_note  # type: ignore[method-assign]


def captured_ids(env: Mapping[str, str]) -> list[str] | None:
    """The ids of the events that were captured by the processes of `env`; None where there is no witness."""
    if not env.get(CAPTURE_LOG):
        return None
    file = Path(env[CAPTURE_LOG])
    return file.read_text().split() if file.exists() else []
