"""Watches a cluster from outside: the broker's events and queues in our model, for workers that can't be changed.

Imports Celery and kombu, and nothing of the transport or the settings: it is given callables and plain values.

What an event shows may wait on its way to its line, each time for a reason of its own:

* as bytes, in the `Backlog`: a broker cuts off a subscriber that reads too slowly, so reading goes before decoding, and
  while an inspection of all workers is under way, their replies may explain the events (`Receiver`);
* as a report of a fact, in `Timers`: an event with more detail may follow. Such is a publication that is still
  `Task.pending`, as later events may change it, and a line that is emitted only if its worker has no agent;
* as an inference from silence, in `Timers` too, which is not made where the monitor stops before;
* as an unacknowledged message, in `Durable`: until the lines of its events are emitted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.broker.control_client import ControlClient
from sluice_agent.monitor.broker.durable import Durable, DurableQueue
from sluice_agent.monitor.broker.pending_lines import PendingLines
from sluice_agent.monitor.broker.receiver import Receiver
from sluice_agent.monitor.broker.subscription import Transient
from sluice_agent.monitor.queues import Consumers, QueueSampler
from sluice_agent.monitor.tracker import Tracker
from sluice_agent.monitor.tracker.missing_jobs import MISSING_SECONDS

__all__ = ["DurableQueue", "Monitor", "MonitorState"]

_AGENT_SECONDS = 5.0  # a worker shows its agent in its heartbeats, one in two seconds, and in a reply to `inspect`
_MAX_LAG_SECONDS = 5.0  # with a longer one, an unread event may show that a worker has received the job


@dataclass(frozen=True, slots=True)
class MonitorState:
    """The state of a monitor at one moment. Counts are those since it started."""

    connected: bool
    """Whether the receiver is subscribed to the broker's events, and the broker has answered lately."""
    connections: int
    """How often the receiver connected; 0: never yet; more than 1: it was cut off in between."""
    gaps: int
    """How often it was disconnected for a while."""
    gap_seconds: float
    """Length of all gaps. In durable mode the events of that time wait in the queue, else they are missing."""
    silent_seconds: float
    """Time since the broker's last sign of life: an event, or the answer to a probe; else since the start."""
    read_ahead_bytes: int
    """Bytes read from the broker and not yet decoded."""
    lag_seconds: float
    """How long the last event waited from its reading to its line."""
    undecodable: int
    """Messages that were no events."""
    events: Mapping[str, int]
    """Events received, by Celery's name of their type."""
    remembered: int
    """Jobs in the tracker's memory."""
    workers: int
    """Workers that are online."""
    depths: Mapping[str, Any]
    """The latest sample of each queue, as the queue sampler keeps it."""


class Monitor:
    """The receiver, tracker, control client and queue sampler of one broker, put together.

    `queues` are names that are sampled beside those that are discovered. `durable` is the queue that collects events
    while no monitor listens, and while the sink can't keep them; None: a queue that lives as long as its connection.
    """

    def __init__(
        self,
        app: Celery,
        sink: Sink,
        *,
        remember: int = 100_000,
        heartbeat_interval: float = 5.0,
        enable_events: bool = True,
        durable: DurableQueue | None = None,
        queue_interval: float = 10.0,
        queues: tuple[str, ...] = (),
        owner: str = "",
        management_url: str | None = None,
        missing_seconds: float = MISSING_SECONDS,
    ) -> None:
        self._extra_queues = frozenset(queues)
        lines = PendingLines(sink)
        self._tracker = Tracker(
            replace(sink, emit=lines.add),
            remember=remember,
            heartbeat_interval=heartbeat_interval,
            missing_seconds=missing_seconds,
            agent_seconds=_AGENT_SECONDS,
        )
        self._control_client = ControlClient(app, enable_events=enable_events)
        subscription = Durable(app, durable) if durable else Transient(app)
        self._receiver = Receiver(
            app, self._tracker, self._control_client, subscription, sink, lines.flush, self._on_tick
        )
        self._worker_count = 0
        self._seen_queues: frozenset[str] = frozenset()
        self._suspected_queues: frozenset[str] = frozenset()
        self._suspected_at = 0.0
        self._consumers = Consumers()
        self._sampler = QueueSampler(
            app,
            sink,
            interval=queue_interval,
            names=lambda: self._extra_queues | self._seen_queues,
            owner=owner,
            management_url=management_url,
            consumers=lambda: self._consumers,
            suspected=lambda: self._suspected_queues,
        )

    def start(self) -> None:
        """Start the threads. Returns at once, whether the broker can be reached or not."""
        self._control_client.start()
        self._receiver.start()
        self._sampler.start()

    def stop(self, timeout: float) -> None:
        """Process what was read from the broker, and stop, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._receiver.stop(timeout)
        self._sampler.stop(max(deadline - time.monotonic(), 0.0))
        self._control_client.stop(max(deadline - time.monotonic(), 0.0))

    def state(self) -> MonitorState:
        """Return the present state."""
        receiver = self._receiver
        depths: Mapping[str, Any] = self._sampler.depths
        return MonitorState(
            connected=receiver.is_connected,
            connections=receiver.connections,
            gaps=receiver.gaps,
            gap_seconds=receiver.gap_seconds,
            silent_seconds=receiver.silent_seconds,
            read_ahead_bytes=receiver.read_ahead_bytes,
            lag_seconds=receiver.lag_seconds,
            undecodable=receiver.undecodable,
            events=dict(self._tracker.event_counts),
            remembered=self._tracker.remembered,
            workers=self._worker_count,
            depths=depths,
        )

    def _on_tick(self) -> None:
        """Copy what other threads need from the tracker: only the receiver's thread, which runs this, may call it."""
        workers = self._tracker.workers()
        self._worker_count = len(workers)
        self._seen_queues = frozenset(self._tracker.queues())
        self._check_suspected_queues()
        by_queue = Counter(queue for worker in workers.values() for queue in worker.queues)
        is_complete = self._receiver.knows_all_workers and all(worker.queues for worker in workers.values())
        self._consumers = Consumers(by_queue, is_complete)

    def _check_suspected_queues(self) -> None:
        """Pass the suspected queues to the sampler, and the depths that it has read since to the tracker."""
        sampled_at, ready = self._sampler.ready
        if self._suspected_queues and sampled_at > self._suspected_at and self._receiver.lag_seconds < _MAX_LAG_SECONDS:
            self._tracker.on_queue_lengths(ready)
        suspected = frozenset(self._tracker.suspected_queues)
        if suspected != self._suspected_queues:
            self._suspected_queues, self._suspected_at = suspected, time.monotonic()
