"""A job that is active until it is released, for tests of the middle of a run."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path

from tests.integration.outcomes.table_run import walk_of_events
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until

BEGUN = "queued active"


class RunningJob:
    """A job that is active until it is released, and waits without running. `begun` is its walk until then."""

    def __init__(
        self, sender: Producer, directory: Path, endpoint: Endpoint, task: str = "hold", begun: str = BEGUN
    ) -> None:
        self.begun = begun
        self.sender = sender
        self.endpoint = endpoint
        self._started, release = directory / "started", directory / "release"
        os.mkfifo(release)
        self._release = os.open(release, os.O_RDWR)  # open at both ends: what is in it stays for a second run
        weakref.finalize(self, os.close, self._release)
        self.id = sender.send(task, str(self._started), str(release))
        wait_until(self._started.exists, 20, f"{task} did not start")

    def release(self) -> None:
        """Let the job end."""
        os.write(self._release, b".")

    def wait_for_walk(self, walk: str, message: str = "", context: Callable[[], object] | None = None) -> bool:
        """Wait until the job's walk is exactly `walk`."""
        return wait_until(lambda: walk_of(self.endpoint, self.id) == walk, 30, message or walk, context or self.walk)

    def walk(self) -> str:
        """Return the job's walk so far."""
        return walk_of(self.endpoint, self.id)


def walk_of(endpoint: Endpoint, task_id: str) -> str:
    """Return a job's states without attempts."""
    return " ".join(state for state, _ in walk_of_events(endpoint.jobs().get(task_id, [])))


def runs_of(endpoint: Endpoint, task_id: str) -> int:
    """Return the number of reported runs, by the ids of their first events."""
    events = [event["job"] for event in endpoint.jobs()[task_id]]
    return len({job["extensions"]["eventId"] for job in events if job["state"] == "active"})
