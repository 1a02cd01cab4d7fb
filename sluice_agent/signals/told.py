"""The verdicts that this process has told: Celery announces some of them twice."""

from __future__ import annotations

from sluice_agent.model import JobState
from sluice_agent.signals.recent import Recent
from sluice_agent.translation import JobFacts

_REMEMBERED = 10_000  # verdicts
_VERDICTS = (JobState.FAILED, JobState.CANCELLED, JobState.RETRYING, JobState.QUEUED)


class Told:
    """Remembers by execution and state."""

    def __init__(self) -> None:
        self._known: Recent[bool] = Recent(_REMEMBERED)

    def is_told(self, facts: JobFacts, state: JobState) -> bool:
        """Whether this execution has been told to be in `state`."""
        return self._known.get(_key(facts, state), False)

    def has_verdict(self, facts: JobFacts) -> bool:
        """Whether this execution has been told to be over."""
        return any(self.is_told(facts, state) for state in _VERDICTS)

    def note(self, facts: JobFacts, state: JobState) -> None:
        """This execution is told to be in `state`."""
        self._known.put(_key(facts, state), True)


def _key(facts: JobFacts, state: JobState) -> str:
    return f"{facts.external_id} {facts.attempt} {facts.run} {state.value}"
