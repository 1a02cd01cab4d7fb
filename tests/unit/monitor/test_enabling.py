"""Who is told to send events of tasks, and how often, until the worker says that it does."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from celery import Celery

from sluice_agent.monitor.backlog import Raw
from sluice_agent.monitor.control_client import ENABLE, ControlClient, ControlReply, EnableBackoff, RoundFinished
from sluice_agent.monitor.receiver import Receiver
from sluice_agent.monitor.subscription import Transient
from sluice_agent.monitor.task_store import Process
from sluice_agent.monitor.tracked_worker import TrackedWorker
from tests.unit.monitor.cluster import Cluster

WORKER = "celery@one"


def online(pid: int = 11) -> dict[str, TrackedWorker]:
    """One worker."""
    return {WORKER: TrackedWorker(Process(WORKER, pid), 0.0, 0.0)}


def reported_at(enabling: EnableBackoff, seconds: int, start: int = 0) -> list[int]:
    """The seconds at which the worker is told, looking once a second."""
    return [second for second in range(start, start + seconds) if enabling.due(online(), second)]


def test_a_worker_is_told_until_it_says_that_it_does() -> None:
    """It comes online a second before it hears anything: what it was told by then is lost, and so would its jobs be."""
    enabling = EnableBackoff()
    assert reported_at(enabling, 130) == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    enabling.acknowledged(WORKER)
    assert reported_at(enabling, 100, 130) == []


def test_a_worker_that_returns_is_told_again() -> None:
    """Another process of that name knows nothing of what the one before it was told."""
    enabling = EnableBackoff()
    for number, again in enumerate(
        (
            lambda: None,
            lambda: enabling.started(WORKER),  # under the same number, as in a container
            lambda: enabling.due({}, 0),  # it was offline
            enabling.forget,
        )
    ):
        again()
        assert list(enabling.due(online(), number)) == [WORKER]
        enabling.acknowledged(WORKER)
        assert list(enabling.due(online(), number)) == []
    assert list(enabling.due(online(pid=12), 9)) == [WORKER]


class Asking(ControlClient):
    """An inspector that keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__(Celery("app", set_as_current=False), enable_events=True)
        self.asked: list[str] = []
        self.enabled: list[str] = []

    def inspect(self, workers: Any) -> None:
        self.asked += workers

    def enable(self, workers: Any) -> None:
        self.enabled += workers


class Listening(Receiver):
    """A receiver whose broker is this test."""

    def __init__(self) -> None:
        self.inspector = Asking()
        app = Celery("app", set_as_current=False)
        tracker = Cluster().tracker
        super().__init__(app, tracker, self.inspector, Transient(app), lambda _: None, lambda: None, lambda: True)

    def hears(self, kind: str, pid: int = 11) -> None:
        event = {"type": kind, "hostname": WORKER, "pid": pid, "timestamp": time.time(), "freq": 2.0, "active": 0}
        event |= {"sw_ver": "5.7.0", "clock": 1, "utcoffset": 0}
        self._backlog.add(Raw(json.dumps(event).encode(), "application/json", "utf-8", None, time.time()))
        self._decode(float("inf"))

    def replies(self, what: str, reply: Any) -> None:
        self.inspector.replies.put(ControlReply(WORKER, what, reply))
        self._take_replies()

    def all_were_asked(self) -> None:
        self.inspector.replies.put(RoundFinished(self.connections))
        self._take_replies()

    def tick(self) -> tuple[list[str], list[str]]:
        """Who is asked, and who is told to send events, at this look."""
        self.inspector.asked, self.inspector.enabled = [], []
        self._tick()
        return self.inspector.asked, self.inspector.enabled


@pytest.mark.parametrize("pid", [11, 12])
def test_a_worker_that_is_started_anew_is_asked_and_told_at_the_next_look(pid: int) -> None:
    """What the process before it has answered is no answer: its jobs of eleven seconds were lost."""
    receiver = Listening()
    receiver.hears("worker-online")
    assert receiver.tick() == ([WORKER], [WORKER])
    receiver.replies("stats", {"pool": {"implementation": "solo"}})
    assert receiver.tick()[0] == []
    receiver.replies(ENABLE, {"ok": "task events enabled"})
    receiver.hears("worker-offline")
    receiver.tick()
    receiver.hears("worker-online", pid)
    assert receiver.tick() == ([WORKER], [WORKER])


def test_answers_to_other_questions_are_no_acknowledgement() -> None:
    """They came a second later, when the worker could hear: it had not heard that it is to send events."""
    receiver = Listening()
    receiver._inspect_all()
    receiver.replies("stats", {"pool": {"implementation": "solo"}})
    receiver.all_were_asked()
    receiver.hears("worker-heartbeat")
    assert receiver.tick() == ([], [WORKER])
    receiver.replies(ENABLE, {"ok": "task events already enabled"})
    assert receiver._enable_backoff.due(receiver._tracker.workers(), time.monotonic() + 3_600) == []


def test_a_worker_that_starts_while_all_are_asked_is_asked_itself() -> None:
    """The one that has answered under its name is gone."""
    receiver = Listening()
    receiver._inspect_all()
    receiver.replies("stats", {"pool": {"implementation": "solo"}})
    receiver.hears("worker-online", 12)
    receiver.all_were_asked()
    assert receiver.tick() == ([WORKER], [WORKER])
