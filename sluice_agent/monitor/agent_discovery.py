"""Which workers have an agent that reports what they do, and where events of their jobs wait until that is known.

An agent shows in its worker's own events and in the answer to `inspect stats`, while it can report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluice_agent import agent_fields
from sluice_agent.monitor.parsing import Event
from sluice_agent.monitor.timers import Timers
from sluice_agent.monitor.tracked_worker import TrackedWorker

_MOST_UNDECIDED = 10_000  # events of one worker: 5 MB


class AgentDiscovery:
    """Learns of the agents that have the connection `connection_id`.

    An event of a worker of which nothing is known is held for `agent_seconds`; 0: it is emitted at once.
    """

    def __init__(
        self, *, connection_id: str, emit: Callable[[bytes], None], timers: Timers, agent_seconds: float
    ) -> None:
        self._connection_id = connection_id
        self._emit = emit
        self._timers = timers
        self._agent_seconds = agent_seconds

    def learn_event(self, view: TrackedWorker, event: Event) -> None:
        """What one of the worker's own events shows."""
        self._learn(view, reports=event.get(agent_fields.AGENT) == self._connection_id)

    def learn_answer(self, view: TrackedWorker, reply: Mapping[str, Any]) -> None:
        """What the worker's answer to `inspect stats` shows."""
        agent = reply.get(agent_fields.AGENT)
        if isinstance(agent, Mapping):
            reports = (
                agent.get(agent_fields.REPORTS) is True and agent.get(agent_fields.CONNECTION) == self._connection_id
            )
            self._learn(view, reports=reports)
        elif view.has_agent is None or view.frequency is None:  # else its events have shown an agent that answers less
            self._learn(view, reports=False)

    def emit_for(self, view: TrackedWorker) -> Callable[[bytes], None] | None:
        """What takes an event of a job of this worker; None where its own agent emits it."""
        if view.has_agent is False or (view.has_agent is None and not self._agent_seconds):
            return self._emit
        return None if view.has_agent else lambda line: self._hold(view, line)

    def _learn(self, view: TrackedWorker, *, reports: bool) -> None:
        view.has_agent = reports
        undecided, view.undecided = view.undecided, []
        if not reports:
            for line in undecided:
                self._emit(line)

    def _hold(self, view: TrackedWorker, line: bytes) -> None:
        """Keep `line` until it is known whether the agent of `view` emits it, or has had the time to show."""

        def decide() -> None:
            if view.has_agent is None:
                self._learn(view, reports=False)

        if not view.undecided:
            self._timers.call(self._agent_seconds, decide, is_fact=True)
        view.undecided.append(line)
        if len(view.undecided) >= _MOST_UNDECIDED:
            decide()
