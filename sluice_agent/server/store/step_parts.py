"""The parts of the steps of long jobs: so a reader needs only the steps that it shows, whatever their number.

A step that follows the others joins the last part, as does progress that takes the place of the last step. One that is
late makes all parts of its job anew, as the writer walks through all of its steps then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sluice_agent.server.record.snapshot import Snapshot, snapshot_after
from sluice_agent.server.record.step import Step
from sluice_agent.server.store.driver import Driver, StepPartRow
from sluice_agent.server.store.memory import Job, Memory, NewSteps
from sluice_agent.server.store.steps import KEY_BYTES, split_keys


class ChangedJob(NamedTuple):
    """A job with the new steps of a transaction, and with all of its steps by their keys if it was walked through."""

    job: Job
    new: NewSteps
    walked: Mapping[bytes, Step] | None


class StepParts:
    """The parts of jobs, as a transaction changes them."""

    def __init__(self, driver: Driver, memory: Memory) -> None:
        self._driver = driver
        self._memory = memory

    def put(self, jobs: Sequence[ChangedJob]) -> None:
        """Write the parts of those of `jobs`, whose steps are written, that are long."""
        most = self._memory.long_steps * KEY_BYTES
        long = [change for change in jobs if len(change.job.keys) > most]
        if not long:
            return
        last = {row.job: row for row in self._driver.last_parts([job.number for job, _, _ in long])}
        rows: list[StepPartRow] = []
        for job, new, walked in long:
            tail = last.get(job.number)
            if walked is not None:
                rows += self._made(job, walked)
            elif tail is not None:
                rows += self._extended(job, tail, new.written)
            else:
                rows += self._made(job, self._memory.steps_of({job.number: job})[job.number])
        self._driver.put_parts(rows)

    def _extended(self, job: Job, tail: StepPartRow, new: Mapping[bytes, Step]) -> list[StepPartRow]:
        """Return the last part with `new` steps, which follow all others, and the parts that begin with them."""
        keys = [key for key in split_keys(tail.keys) if key not in new] + _in_order(new)
        rows: list[StepPartRow] = []
        while len(keys) > self._memory.part_steps:
            whole, keys = keys[: self._memory.part_steps], keys[self._memory.part_steps :]
            tail = tail._replace(keys=b"".join(whole))
            rows.append(tail)
            steps = self._memory.steps_with(job, whole)
            before = Snapshot.from_bytes(tail.snapshot) if tail.snapshot else None
            tail = _next_part(tail, snapshot_after(before, steps.values()))
        return [*rows, tail._replace(keys=b"".join(keys))]

    def _made(self, job: Job, steps: Mapping[bytes, Step]) -> list[StepPartRow]:
        """Return all parts of the `steps` of a job."""
        keys = _in_order(steps)
        part = StepPartRow(job.number, 0, 0, b"", b"")
        snapshot: Snapshot | None = None
        rows: list[StepPartRow] = []
        for start in range(0, len(keys), self._memory.part_steps):
            of_part = keys[start : start + self._memory.part_steps]
            part = part._replace(keys=b"".join(of_part))
            rows.append(part)
            snapshot = snapshot_after(snapshot, [steps[key] for key in of_part])
            part = _next_part(part, snapshot)
        return rows


def _next_part(part: StepPartRow, snapshot: Snapshot) -> StepPartRow:
    start = part.start + len(part.keys) // KEY_BYTES
    return StepPartRow(part.job, start, snapshot.states, snapshot.to_bytes(), b"")


def _in_order(steps: Mapping[bytes, Step]) -> list[bytes]:
    return sorted(steps, key=lambda key: steps[key].order)
