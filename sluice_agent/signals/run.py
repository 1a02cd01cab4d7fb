"""Runs: executions of attempts of jobs, as the process that executes one knows it, and the one that has received it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice_agent.lifecycle.encoding import JobEvents, PlainJobEvents
from sluice_agent.lifecycle.timestamps import timestamp_of_ns
from sluice_agent.model import JobState

PlainRun = tuple[str, str, str, str, str, int, float, str]
"""A run of a plain job: what the text of its events is made of, and its start.

These are the scope of its ids, the head and the members of its shared text, when it was created, the name of the run,
and the three members of `Run` about the start. A tuple costs a twentieth of a `Run` with its events.
"""


@dataclass(init=False)  # most runs leave all members with a default as they are: a generated method would set them
class Run:
    """One execution of one attempt, in this process. The recorder alone changes it: see `recorder`."""

    events: JobEvents
    started_ns: int
    """The start by the wall clock, in nanoseconds since the epoch."""
    started_monotonic: float
    """The start by the monotonic clock, in seconds."""
    started: str
    agent_header: Mapping[str, str]
    """That of the job's message."""
    state: JobState | None = None
    """The state that was reported last, or None. It is set after the event: an interrupted handler runs again."""
    published_at: str | None = None
    """When this job published its own retry."""
    published_for: str | None = None
    """The ETA of that retry."""
    progress_at: float = float("-inf")
    pending_progress: tuple[float, str] | None = None
    """A fraction and its timestamp, not yet reported. With that it sorts before an end that another process reports."""
    stored: tuple[str, Any] | None = None
    """The state that the task has stored for itself, with its exception or its `meta`."""
    unstored_by: int | None = None
    """The id() of the exception for which the result of this run, a success, can't be stored."""

    def __init__(
        self,
        events: JobEvents,
        started_ns: int,
        started_monotonic: float,
        started: str,
        agent_header: Mapping[str, str],
    ) -> None:
        self.events = events
        self.started_ns = started_ns
        self.started_monotonic = started_monotonic
        self.started = started
        self.agent_header = agent_header

    @classmethod
    def of_plain_run(
        cls, external_id: str, plain_run: PlainRun, agent_header: Mapping[str, str], state: JobState | None
    ) -> Run:
        """Return the run of a plain job as any other one."""
        *texts, started_ns, started_monotonic, started = plain_run
        run = cls(PlainJobEvents(external_id, *texts), started_ns, started_monotonic, started, agent_header)
        run.state = state
        return run

    @property
    def has_ended(self) -> bool:
        """True if an end is reported."""
        return self.state is not None and self.state is not JobState.ACTIVE

    def now(self) -> str:
        """Return the present time, by the wall clock as it was when the run began: it may have been set since."""
        return self.after(time.monotonic() - self.started_monotonic)

    def after(self, seconds: float) -> str:
        """Return the timestamp `seconds` after the start."""
        return timestamp_of_ns(self.started_ns + int(seconds * 1e9))

    @property
    def is_eager(self) -> bool:
        """True if the caller of the task runs it, in its own process."""
        return self.events.is_eager


@dataclass(frozen=True, slots=True)
class ReceivedRun:
    """A run as the main process of its worker knows it, which has received the job and may not execute it."""

    events: JobEvents
    started: str | None
    """None: it is not known."""
    ended: str
    """The end, if that is now."""
