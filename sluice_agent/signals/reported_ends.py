"""What is reported already, where a `Run` can't hold it: the memory of the recorder.

Celery announces some ends twice: in two processes, or in one that has executed the run and forgotten it since.
"""

from __future__ import annotations

from collections import OrderedDict

from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.model import JobState

_CAPACITY = 10_000  # ends
_ENDS = (JobState.FAILED, JobState.CANCELLED, JobState.RETRYING, JobState.QUEUED)
_REPORTED = "_sluice_reported"


class ReportedEnds:
    """Store of reported ends, by run and state; the one that was added longest ago is removed first."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        # Not a dict: to find its oldest key it steps over every one that was removed before.
        self._keys: OrderedDict[str, None] = OrderedDict()

    def is_reported(self, events: JobEvents, state: JobState) -> bool:
        """Return whether the run of these events was reported to be in `state`."""
        return _key(events, state) in self._keys

    def has_end(self, events: JobEvents) -> bool:
        """Return whether an end of the run of these events was reported, or that its job is queued again."""
        return any(self.is_reported(events, state) for state in _ENDS)

    def add(self, events: JobEvents, state: JobState) -> None:
        """Store that the run of these events was reported to be in `state`."""
        key = _key(events, state)
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)


def mark_exception(raised: BaseException) -> None:
    """Mark an exception that Celery raises again, here and in the main process: the end of its job is reported."""
    vars(raised)[_REPORTED] = True  # not setattr(): a third party's class may define that


def is_marked(raised: BaseException) -> bool:
    """Return whether the process that ran the job has reported its end, of which `raised` is the cause."""
    return _REPORTED in vars(raised)


def _key(events: JobEvents, state: JobState) -> str:
    return f"{events.external_id} {events.attempt} {events.run_name} {state.value}"
