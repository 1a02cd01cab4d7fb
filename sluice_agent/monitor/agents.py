"""Which workers have an agent that reports what they do, and where events of their jobs wait until that is known.

An agent shows in its worker's own events and in the answer to `inspect stats`, while it can report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sluice_agent import speaker
from sluice_agent.monitor.events import Event
from sluice_agent.monitor.later import Later
from sluice_agent.monitor.view import WorkerView

_MOST_UNDECIDED = 10_000  # events of one worker: 5 MB


class Agents:
    """Learns of the agents that have the connection `connection_id`.

    An event of a worker of which nothing is known is held for `agent_seconds`; 0: it is emitted at once.
    """

    def __init__(
        self, *, connection_id: str, emit: Callable[[bytes], None], later: Later, agent_seconds: float
    ) -> None:
        self._connection_id = connection_id
        self._emit = emit
        self._later = later
        self._agent_seconds = agent_seconds

    def learn_event(self, view: WorkerView, event: Event) -> None:
        """What one of the worker's own events shows."""
        self._learn(view, reports=event.get(speaker.FIELD) == self._connection_id)

    def learn_answer(self, view: WorkerView, reply: Mapping[str, Any]) -> None:
        """What the worker's answer to `inspect stats` shows."""
        agent = reply.get(speaker.FIELD)
        if isinstance(agent, Mapping):
            reports = agent.get(speaker.REPORTS) is True and agent.get(speaker.CONNECTION) == self._connection_id
            self._learn(view, reports=reports)
        elif view.speaks is None or view.frequency is None:  # else its events have shown an agent that answers less
            self._learn(view, reports=False)

    def emit_for(self, view: WorkerView) -> Callable[[bytes], None] | None:
        """What takes an event of a job of this worker; None where its own agent emits it."""
        if view.speaks is False or (view.speaks is None and not self._agent_seconds):
            return self._emit
        return None if view.speaks else lambda line: self._hold(view, line)

    def _learn(self, view: WorkerView, *, reports: bool) -> None:
        view.speaks = reports
        undecided, view.undecided = view.undecided, []
        if not reports:
            for line in undecided:
                self._emit(line)

    def _hold(self, view: WorkerView, line: bytes) -> None:
        """Keep `line` until it is known whether the agent of `view` emits it, or has had the time to show."""

        def decide() -> None:
            if view.speaks is None:
                self._learn(view, reports=False)

        if not view.undecided:
            self._later.call(self._agent_seconds, decide, is_known=True)
        view.undecided.append(line)
        if len(view.undecided) >= _MOST_UNDECIDED:
            decide()
