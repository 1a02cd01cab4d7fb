"""The verdicts that this process has reported: Celery announces some of them twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from sluice_agent.lifecycle.encoding import JobFacts
from sluice_agent.model import JobState

_CAPACITY = 10_000  # verdicts
_VERDICTS = (JobState.FAILED, JobState.CANCELLED, JobState.RETRYING, JobState.QUEUED)


class ReportedVerdicts:
    """Store of reported verdicts, by run and state."""

    def __init__(self) -> None:
        self._known: LRU[bool] = LRU(_CAPACITY)

    def is_reported(self, facts: JobFacts, state: JobState) -> bool:
        """Return whether this run was reported to be in `state`."""
        return self._known.get(_key(facts, state), False)

    def has_verdict(self, facts: JobFacts) -> bool:
        """Return whether an end of this run was reported, or that its job is queued again."""
        return any(self.is_reported(facts, state) for state in _VERDICTS)

    def mark_reported(self, facts: JobFacts, state: JobState) -> None:
        """Record that this run was reported to be in `state`."""
        self._known.put(_key(facts, state), True)


def _key(facts: JobFacts, state: JobState) -> str:
    return f"{facts.external_id} {facts.attempt} {facts.run_name} {state.value}"


_Value = TypeVar("_Value")


class LRU(Generic[_Value]):
    """The values that were put last, by key; the one that was put longest ago is removed first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # Not a dict: to find its oldest key it steps over every one that was removed before.
        self._values: OrderedDict[str, _Value] = OrderedDict()

    def get(self, key: str, default: _Value) -> _Value:
        """Return the value of `key`, or `default` if it was never put or was removed."""
        return self._values.get(key, default)

    def put(self, key: str, value: _Value) -> None:
        """Store `value` as the newest."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)
