"""Discovery of the workers whose agents report their jobs; events of a job are held until that is known.

An agent marks its worker's own events and the reply to `inspect stats`, while it can report.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sluice_agent.lifecycle import agent_fields
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.tracker.parsing import Event
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import TrackedWorker

_MAX_UNDECIDED = 10_000  # events of one worker: 5 MB


class AgentDiscovery:
    """Learns which workers have an agent for the sink's connection, and sets where events of their jobs go.

    While that is not known of a worker, its events are held for `agent_seconds`; 0: they are emitted at once.
    """

    def __init__(self, sink: Sink, timers: Timers, agent_seconds: float) -> None:
        self._sink = sink
        self._timers = timers
        self._agent_seconds = agent_seconds

    def on_new(self, worker: TrackedWorker) -> None:
        """Hold the events of a new worker's jobs."""
        worker.emit = partial(self._hold, worker) if self._agent_seconds else self._sink.emit

    def learn_event(self, worker: TrackedWorker, event: Event) -> None:
        """Learn from one of the worker's own events."""
        self._learn(worker, reports=event.get(agent_fields.AGENT) == self._sink.connection_id)

    def learn_reply(self, worker: TrackedWorker, reply: Mapping[str, Any]) -> None:
        """Learn from the worker's reply to `inspect stats`."""
        agent = reply.get(agent_fields.AGENT)
        if isinstance(agent, Mapping):
            is_ours = agent.get(agent_fields.CONNECTION) == self._sink.connection_id
            reports = is_ours and agent.get(agent_fields.REPORTS) is True
            self._learn(worker, reports=reports)
        elif worker.has_agent is None or worker.frequency is None:
            # Else its events have shown an agent, one that does not mark replies.
            self._learn(worker, reports=False)

    def _learn(self, worker: TrackedWorker, *, reports: bool) -> None:
        if worker.has_agent is reports:  # as most heartbeats show again; then no event is held
            return
        worker.has_agent, worker.emit = reports, None if reports else self._sink.emit
        undecided, worker.undecided = worker.undecided, []
        if not reports:
            for line in undecided:
                self._sink.emit(line)

    def _hold(self, worker: TrackedWorker, line: bytes) -> None:
        """Hold `line` until it is known whether the agent of `worker` emits it, or `agent_seconds` have passed."""

        def decide() -> None:
            if worker.has_agent is None:
                self._learn(worker, reports=False)

        if not worker.undecided:
            self._timers.report_after(self._agent_seconds, decide)
        worker.undecided.append(line)
        if len(worker.undecided) >= _MAX_UNDECIDED:
            decide()
