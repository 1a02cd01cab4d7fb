"""The record of a job from a snapshot of its steps and the later ones: the same as from all steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.server.record.record import record_of, record_of_walk
from sluice_agent.server.record.snapshot import Snapshot, snapshot_after, walk_after
from sluice_agent.server.record.summary import walk
from tests.support.records import steps_of
from tests.unit.server.lives import lives, reports


@given(lives() | reports(), st.sets(st.integers(1, 12), min_size=1))
def test_a_record_is_the_same_wherever_its_steps_are_divided(events: list[dict[str, Any]], ends: set[int]) -> None:
    """The page of a job that is retried for days would show another state than that of the same job a step shorter."""
    steps = sorted(steps_of(events), key=lambda step: step.order)
    snapshot, last = None, 0
    for start, end in pairwise([0, *sorted(end for end in ends if end < len(steps))]):
        snapshot, last = Snapshot.from_bytes(snapshot_after(snapshot, steps[start:end]).to_bytes()), end
    if snapshot is None:
        return
    whole = walk(steps)
    later = walk_after(snapshot, steps[last:], whole.summary)
    expected, record = record_of(steps), record_of_walk(later)
    assert later.earlier + len(later.states) == len(whole.states)
    assert record.pop("stateHistory") == expected.pop("stateHistory")[later.earlier :]
    assert record == expected
    assert [*later.past, later.summary.history] == [*whole.past, whole.summary.history][-1 - len(later.past) :]
