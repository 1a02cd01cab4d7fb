"""Which workers are sent `enable_events`, and how often, until they acknowledge it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from celery import Celery

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.broker.backlog import Raw
from sluice_agent.monitor.broker.control_client import ENABLE, ControlClient, ControlReply, EnableBackoff, RoundFinished
from sluice_agent.monitor.broker.receiver import Receiver
from sluice_agent.monitor.broker.subscription import Transient
from sluice_agent.monitor.tracker.tasks import Process
from sluice_agent.monitor.tracker.worker_store import TrackedWorker
from tests.unit.monitor.cluster import CONNECTION, Cluster

WORKER = "celery@one"
SINK = Sink(emit=lambda _: None, drop=lambda _: None, connection_id=CONNECTION)


def online(pid: int = 11) -> dict[str, TrackedWorker]:
    """Return one worker that is online."""
    return {WORKER: TrackedWorker(Process(WORKER, pid), 0.0, 0.0)}


def sent_at(backoff: EnableBackoff, seconds: int, start: int = 0) -> list[int]:
    """Return the seconds at which the command is sent, with one check a second."""
    return [second for second in range(start, start + seconds) if backoff.due(online(), second)]


def test_events_are_enabled_until_the_worker_acknowledges() -> None:
    """A worker is online a second before it receives commands: one sent by then is lost, and so would its jobs be."""
    backoff = EnableBackoff()
    assert sent_at(backoff, 130) == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    backoff.acknowledged(WORKER)
    assert sent_at(backoff, 100, 130) == []


def test_events_are_enabled_again_on_a_worker_that_returns() -> None:
    """Another process of that name has not received the command that the one before it received."""
    backoff = EnableBackoff()
    for second, restart in enumerate(
        (
            lambda: None,
            lambda: backoff.started(WORKER),  # under the same pid, as in a container
            lambda: backoff.due({}, 0),  # it was offline
            backoff.forget,
        )
    ):
        restart()
        assert list(backoff.due(online(), second)) == [WORKER]
        backoff.acknowledged(WORKER)
        assert list(backoff.due(online(), second)) == []
    assert list(backoff.due(online(pid=12), 9)) == [WORKER]


class RecordingClient(ControlClient):
    """A control client that records its requests and sends nothing."""

    def __init__(self) -> None:
        super().__init__(Celery("app", set_as_current=False), enable_events=True)
        self.inspected: list[str] = []
        self.enabled: list[str] = []

    def inspect(self, workers: Any) -> None:
        self.inspected += workers

    def enable(self, workers: Any) -> None:
        self.enabled += workers


class OfflineReceiver(Receiver):
    """A receiver whose broker is this test."""

    def __init__(self) -> None:
        self.control = RecordingClient()
        app = Celery("app", set_as_current=False)
        tracker = Cluster().tracker
        super().__init__(app, tracker, self.control, Transient(app), SINK, lambda: None, lambda: None)

    def receive(self, kind: str, pid: int = 11) -> None:
        event = {"type": kind, "hostname": WORKER, "pid": pid, "timestamp": time.time(), "freq": 2.0, "active": 0}
        event |= {"sw_ver": "5.7.0", "clock": 1, "utcoffset": 0}
        self._backlog.add(Raw(json.dumps(event).encode(), "application/json", "utf-8", None, time.time()))
        self._decode(float("inf"))

    def take_reply(self, command: str, reply: Any) -> None:
        self.control.replies.put(ControlReply(WORKER, command, reply))
        self._take_replies()

    def finish_round(self) -> None:
        self.control.replies.put(RoundFinished(self.connections))
        self._take_replies()

    def tick(self) -> tuple[list[str], list[str]]:
        """Return the workers that this tick inspects, and those that it sends `enable_events` to."""
        self.control.inspected, self.control.enabled = [], []
        self._tick()
        return self.control.inspected, self.control.enabled


@pytest.mark.parametrize("pid", [11, 12])
def test_a_restarted_worker_is_inspected_and_enabled_at_the_next_tick(pid: int) -> None:
    """A reply of the process before it counts for nothing: its jobs of eleven seconds were lost."""
    receiver = OfflineReceiver()
    receiver.receive("worker-online")
    assert receiver.tick() == ([WORKER], [WORKER])
    receiver.take_reply("stats", {"pool": {"implementation": "solo"}})
    assert receiver.tick()[0] == []
    receiver.take_reply(ENABLE, {"ok": "task events enabled"})
    receiver.receive("worker-offline")
    receiver.tick()
    receiver.receive("worker-online", pid)
    assert receiver.tick() == ([WORKER], [WORKER])


def test_replies_to_other_commands_are_no_acknowledgement() -> None:
    """They came a second later, when the worker received commands: it had not received `enable_events`."""
    receiver = OfflineReceiver()
    receiver._inspect_all()
    receiver.take_reply("stats", {"pool": {"implementation": "solo"}})
    receiver.finish_round()
    receiver.receive("worker-heartbeat")
    assert receiver.tick() == ([], [WORKER])
    receiver.take_reply(ENABLE, {"ok": "task events already enabled"})
    assert receiver._enable_backoff.due(receiver._tracker.workers(), time.monotonic() + 3_600) == []


def test_a_worker_that_starts_during_a_round_is_inspected_itself() -> None:
    """The process that replied under its name is gone."""
    receiver = OfflineReceiver()
    receiver._inspect_all()
    receiver.take_reply("stats", {"pool": {"implementation": "solo"}})
    receiver.receive("worker-online", 12)
    receiver.finish_round()
    assert receiver.tick() == ([WORKER], [WORKER])
