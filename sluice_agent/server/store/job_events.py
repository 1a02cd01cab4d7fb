"""The events of jobs in one transaction: which are new, and what they change.

A job's row is its summary, which each new step advances. Rollups, tallies and frames follow from what a summary was
before and what it is afterwards, so that late events and corrections leave exact figures. A run keeps its first and its
last progress only, however often it reports.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sluice_agent.log import warn_limited
from sluice_agent.server.record.frames import Frame, JobFrame, job_frame
from sluice_agent.server.record.measures import Count, Counts, WorkerCount, changes, changes_of_walk
from sluice_agent.server.record.step import Step, step_of
from sluice_agent.server.record.summary import Summary, advanced, walk
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.driver import Driver, JobRow
from sluice_agent.server.store.job_rows import Columns, changed_columns, changed_values, job_row, read_labels
from sluice_agent.server.store.memory import Job, Memory, NewSteps
from sluice_agent.server.store.rollups import put_counts
from sluice_agent.server.store.schema import AHEAD
from sluice_agent.server.store.step_parts import ChangedJob, StepParts
from sluice_agent.server.store.steps import StoredStep, encode_body, key_of
from sluice_agent.server.validation import ReceivedEvent

_LEFT_OUT = "The job %s has so many events that late ones and progress are left out"


class _Change(Struct, gc=False):
    """A job, the new steps of a transaction, and the summary before it and after it."""

    job: Job
    new: NewSteps
    before: Summary | None
    after: Summary


class JobEvents:
    """The jobs of a transaction at the moment `now`. `connections` are the numbers of connections by their ids."""

    def __init__(self, driver: Driver, memory: Memory, connections: dict[str, int], now: int) -> None:
        self._driver = driver
        self._memory = memory
        self._connections = connections
        self._future = now + AHEAD
        self._now = now
        self._parts = StepParts(driver, memory)
        self._frames: defaultdict[int, list[Frame | JobFrame]] = defaultdict(list)
        self._counts: defaultdict[int, Counter[Count | WorkerCount]] = defaultdict(Counter)
        self._tallies: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.jobs: list[Job] = []

    def load(self, events: Sequence[ReceivedEvent]) -> list[Job]:
        """Return the job of each of `events`; where progress is reported, with the progress that is stored."""
        connections = self._connections
        jobs = self._memory.jobs(
            (connections[event["connectionId"]], event["connectionId"], event["job"]["externalId"]) for event in events
        )
        self.jobs = list({id(job): job for job in jobs}.values())
        unread = {
            job.number: job
            for job, event in zip(jobs, events, strict=True)
            if job.progress is None and job.is_walked and "progress" in event["job"]
        }
        for number, steps in self._memory.steps_of(unread).items():
            unread[number].find_progress(steps.values())
        return jobs

    def new_step(self, job: Job, event: ReceivedEvent) -> Step | None:
        """Return the step in `event`; None if it is known, if it is progress between two known ones, or if the job is
        too long for it."""
        key = key_of(event)
        if job.has(key):
            return None
        step = step_of(event, key)
        if not job.takes(step):
            warn_limited("long jobs", _LEFT_OUT, job.external_id)
            return None
        return None if step.is_progress and not job.keeps_progress(step) else step

    def add(self, job: Job, step: Step) -> None:
        """Add a new step."""
        if step.is_progress:
            job.add_progress(step)
        else:
            job.add(step)

    def put(self) -> defaultdict[int, list[Frame | JobFrame]]:
        """Write all that the added steps change, and return the frames of that by their connections."""
        changed = [(job, job.new) for job in self.jobs if job.new is not None]
        if not self._driver.owns_database:
            changed.sort(key=lambda pair: pair[0].uuid)  # the order in which every process adds jobs
        done: list[_Change] = []
        unordered: dict[int, tuple[Job, NewSteps]] = {}
        start, size = 0, self._driver.first_jobs
        while start < len(changed):
            part: list[_Change] = []
            for job, new in changed[start : start + size]:
                after = self._advance(job, new)
                if after is None:
                    unordered[job.number] = job, new
                else:
                    part.append(_Change(job, new, job.summary, after))
            self._put_rows(part)
            done += part
            start, size = start + size, 2 * size
        walked: list[_Change] = []
        changed_jobs = [ChangedJob(change.job, change.new, None) for change in done]
        for number, stored in self._memory.steps_of({number: job for number, (job, _) in unordered.items()}).items():
            job, new = unordered[number]
            walked.append(_Change(job, new, job.summary, self._walk(job, new, stored)))
            changed_jobs.append(ChangedJob(job, new, stored | new.written))
        self._put_rows(walked)
        done += walked
        self._parts.put(changed_jobs)
        put_counts(self._driver, self._memory, self._counts)
        self._driver.add_tallies({key: count for key, count in sorted(self._tallies.items()) if count})
        for change in done:
            change.job.summary = change.after
        return self._frames

    def _advance(self, job: Job, new: NewSteps) -> Summary | None:
        """Return the job's summary after the steps that arrived; None if it must walk through all of its steps."""
        frames: list[JobFrame] = []
        counts: list[Counts] = []
        summary = job.summary
        steps = new.arrived if len(new.arrived) == 1 else sorted(new.arrived, key=lambda step: step.order)
        for step in steps:
            if new.displacing and step.order in new.displacing and (summary is None or not summary.replaces(step)):
                return None
            after = advanced(summary, step, keeps_counts=not job.is_walked)
            if after is None and job.is_walked:
                return None
            if after is None:
                job.leave_out(step)
                continue
            counts.append(changes(summary, after))
            if frame := job_frame(job.uuid, summary, after):
                frames.append(frame)
            summary = after
        self._add(job, frames, counts)
        return summary

    def _walk(self, job: Job, new: NewSteps, stored: dict[bytes, Step]) -> Summary:
        """Return the job's summary after a walk through the steps that are `stored` and the new ones."""
        before = walk(stored.values()) if stored else None
        after = walk((stored | new.written).values())
        frame = job_frame(job.uuid, job.summary, after.summary)
        self._add(job, [frame] if frame else [], [changes_of_walk(before, after)])
        return after.summary

    def _add(self, job: Job, frames: Sequence[JobFrame], counts: Sequence[Counts]) -> None:
        if frames:
            self._frames[job.connection] += frames
        total = self._counts[job.connection]
        for part in counts:
            for key, count in part.items():
                total[key] += count

    def _put_rows(self, done: Sequence[_Change]) -> None:
        names = {step.job["name"] for change in done for step in change.new.written.values()}
        labels = read_labels(self._memory, [change.after for change in done], names)
        new: list[StoredStep] = []
        progress: list[StoredStep] = []
        for change in done:
            number = change.job.number
            for key, step in change.new.written.items():
                stored = StoredStep(number, key, labels.names[step.job["name"]], encode_body(step.event))
                (progress if step.is_progress else new).append(stored)
        self._driver.insert_steps(new)
        self._driver.put_steps(progress)
        added: list[JobRow] = []
        changed: defaultdict[Columns, list[tuple[Any, ...]]] = defaultdict(list)
        future: list[tuple[int, int]] = []
        for change in done:
            job, before, after = change.job, change.before, change.after
            if after.changed_at > self._future or after.created_at > self._future:
                future.append((job.number, self._now))
            fold = after.to_bytes() if job.is_long else None
            self._tallies[job.connection, JOB_STATE_CODES[after.state]] += 1
            if before is None:
                added.append(job_row(job, after, labels, fold))
            else:
                self._tallies[job.connection, JOB_STATE_CODES[before.state]] -= 1
                columns = changed_columns(before, after, fold)
                changed[columns].append(changed_values(job, after, labels, columns, fold))
        self._driver.insert_jobs(added)
        for columns, rows in changed.items():
            self._driver.update_jobs(columns, rows)
        if future:
            self._driver.put_future_jobs(future)
