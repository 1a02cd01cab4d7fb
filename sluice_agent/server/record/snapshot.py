"""What a job's steps up to one of them come to: the record of a job of many steps is made from that and later ones.

A snapshot is a left fold over the steps in their order, so that it makes no difference where the steps are divided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from sluice_agent.server.record.history import History
from sluice_agent.server.record.record import merged, merged_of_state
from sluice_agent.server.record.step import Fields, Reported, Step
from sluice_agent.server.record.summary import Course, State, Summary, course_of


class Snapshot(Struct, frozen=True, gc=False, array_like=True):
    """A job up to one of its steps. `first` are the states that belong before all others, and `states` counts those;
    `last` has what explains the present state."""

    history: History
    first: list[State]
    states: int
    excluded: Fields | None
    dispatch: Fields | None
    included: Fields | None
    last: Fields | None

    def to_bytes(self) -> bytes:
        """Return the snapshot as `from_bytes` reads it."""
        return json.dumps(msgspec.to_builtins(self), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Snapshot:
        """Return the snapshot that `to_bytes` has returned."""
        return msgspec.convert(json.loads(body), cls)


class LaterWalk(NamedTuple):
    """A walk through the steps after a snapshot, which stands for those before: see `Walked`."""

    summary: Summary
    first: Sequence[State]
    states: Sequence[State]
    earlier: int
    past: Sequence[History]
    steps: Sequence[Reported]
    last_state_steps: Sequence[Reported]


def snapshot_after(before: Snapshot | None, steps: Iterable[Step]) -> Snapshot:
    """Return the snapshot with further `steps`, in any order, which come after all of it. There is at least one."""
    course = course_of(steps, None if before is None else before.history)
    excluded, dispatch, included, last = _parts(before, course)
    return Snapshot(
        course.history,
        [*course.first, *(before.first if before else ())],
        len(course.states) + (before.states if before else 0),
        merged(excluded),
        merged(dispatch),
        merged(included),
        merged_of_state(last),
    )


def walk_after(before: Snapshot, steps: Iterable[Step], summary: Summary) -> LaterWalk:
    """Return the walk through the `steps` of a job after a snapshot. `summary` is that of all steps."""
    course = course_of(steps, before.history)
    excluded, dispatch, included, last = _parts(before, course)
    first = [*course.first, *before.first]
    earlier = len(first) + before.states
    return LaterWalk(summary, first, course.states, earlier, course.past, [*excluded, *dispatch, *included], last)


def _parts(before: Snapshot | None, course: Course) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Return what was reported by excluded steps, by the dispatch and by all others, and of the present state."""
    if before is None:
        return course.excluded, course.dispatch, course.included, course.last_state_steps

    def joined(fields: Fields | None, steps: Sequence[Step]) -> list[Any]:
        return [*([] if fields is None else [fields]), *steps]

    last = None if course.has_new_state else before.last
    return (
        joined(before.excluded, course.excluded),
        joined(before.dispatch, course.dispatch),
        joined(before.included, course.included),
        joined(last, course.last_state_steps),
    )
