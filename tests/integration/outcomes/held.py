"""A job that is active until it is released, for what happens in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.outcomes.stage import folded
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until

BEGUN = "queued active"


class Held:
    """A job that is active until it is released. `begun` is what is told of it by then."""

    def __init__(
        self, sender: Producer, directory: Path, endpoint: Endpoint, task: str = "hold", begun: str = BEGUN
    ) -> None:
        self.begun = begun
        self.sender = sender
        self.endpoint = endpoint
        self._started, self._release = directory / "started", directory / "release"
        self.id = sender.send(task, str(self._started), str(self._release))
        wait_until(self._started.exists, 20, f"{task} did not start")

    def release(self) -> None:
        """Let it end."""
        self._release.touch()

    def told(self, walk: str, message: str = "", context: Callable[[], object] | None = None) -> bool:
        """Wait until the job's walk is `walk`, and no other."""
        return wait_until(lambda: walk_of(self.endpoint, self.id) == walk, 30, message or walk, context or self.walk)

    def walk(self) -> str:
        """What was told so far."""
        return walk_of(self.endpoint, self.id)


def walk_of(endpoint: Endpoint, task_id: str) -> str:
    """A job's states; attempts are left out."""
    return " ".join(state for state, _ in folded(endpoint.jobs().get(task_id, [])))


def runs_of(endpoint: Endpoint, task_id: str) -> int:
    """How many executions were told, by the ids of their first events."""
    events = [event["job"] for event in endpoint.jobs()[task_id]]
    return len({job["extensions"]["eventId"] for job in events if job["state"] == "active"})
