"""What the writer keeps in memory of what it has written: numbers of connections and labels, and jobs under way.

All of it is in the database too. A transaction that is rolled back makes it void as a whole; a job that another process
has written is loaded again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from sys import intern
from types import MappingProxyType

from msgspec import Struct, field

from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.step import Order, Reporter, Step
from sluice_agent.server.record.summary import Summary, summary_of
from sluice_agent.server.store.driver import Driver
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.store.steps import KEY_BYTES, StoredStep, decode_step, encode_body, progress_key, split_keys

JOBS = 30_000
"""The jobs that are kept, each in about 1 kB."""

JOBS_BYTES = 24_000_000
"""Bytes of what may be long in them: an outage leaves many jobs with an error of 10,000 characters each."""

_OBJECTS = 10  # bytes that an event takes for each of its JSON
_WALKED_STEPS = 16  # a job of more has a fold: a walk through all of its steps at each event would take too long
MOST_WALKED_STEPS = 10_000
"""The steps of a job through which the writer walks: that takes half a second, in which all others wait. A job of more
gets no step but those that follow its last one, so each of these changes its fold, and none changes another step."""

LONG_STEPS = 1_000
"""The steps of a job of which a record is made at once: one of more has parts."""

PART_STEPS = 200
"""The steps of a part."""

_LABELS = 50_000  # labels that are kept: programs that name a queue for each reply must not fill the memory


_NO_PROGRESS: Mapping[Reporter, list[Step]] = MappingProxyType({})


class NewSteps(Struct):
    """The steps of a job in one transaction: those to be `written`, by key, and those that `arrived` for the summary.

    They differ where progress takes the place of other progress: `displacing` are the orders of these steps.
    """

    written: dict[bytes, Step] = field(default_factory=dict)
    arrived: list[Step] = field(default_factory=list)
    displacing: set[Order] = field(default_factory=set)


class Job(Struct):
    """A job with the keys of its steps, joined; `summary` is None for one that is not in the database yet. All is as of
    the `version` that the database had.

    `progress` has the first and the last report of each run, None if they have not been read. `new` is None if the
    transaction has no new step of the job. `is_walked` is False for a job that had too many steps when the transaction
    began: only steps that follow its last one are added. `size` is that of what may be long, in bytes.
    """

    connection: int
    connection_id: str
    external_id: str
    uuid: bytes
    number: int = 0
    version: int = 0
    summary: Summary | None = None
    keys: bytes = b""
    progress: Mapping[Reporter, list[Step]] | None = None
    new: NewSteps | None = None
    is_walked: bool = True
    size: int = 0

    @property
    def is_long(self) -> bool:
        """True if the job has so many steps that it has a fold."""
        return len(self.keys) > _WALKED_STEPS * KEY_BYTES

    def has(self, key: bytes) -> bool:
        """Return whether the job has a step with `key`."""
        index = self.keys.find(key)
        while index > 0 and index % KEY_BYTES:  # a part of two keys
            index = self.keys.find(key, index + 1)
        return index >= 0

    def add(self, step: Step) -> None:
        """Add a step that is not progress."""
        key = step.order[-1]
        new = self._new_steps()
        new.written[key] = step
        new.arrived.append(step)
        self.keys += key

    def takes(self, step: Step) -> bool:
        """Return whether `step` may be added. A job that is not walked through takes nothing late, and no progress, as
        all of its steps would be read to find what it replaces."""
        if self.is_walked or self.summary is None:
            return True
        return not step.is_progress and step.order[:3] > self.summary.order

    def leave_out(self, step: Step) -> None:
        """Remove a new step that is not progress: it would need a walk."""
        key = step.order[-1]
        self.keys = b"".join([other for other in split_keys(self.keys) if other != key])
        if self.new is not None:
            del self.new.written[key]

    def measure(self) -> None:
        """Set `size`."""
        error = None if self.summary is None else self.summary.error
        self.size = len(self.keys) + len(error or "")
        if self.progress:
            reports = [step for steps in self.progress.values() for step in steps]
            self.size += _OBJECTS * sum(len(encode_body(step.event)) for step in reports)

    def find_progress(self, steps: Iterable[Step]) -> None:
        """Take the progress of each run from `steps`, which are all that the database has."""
        progress = defaultdict(list)
        for step in sorted(steps, key=lambda step: step.order):
            if step.is_progress:
                progress[step.reporter].append(step)
        self.progress = progress or _NO_PROGRESS

    def keeps_progress(self, step: Step) -> bool:
        """Return whether `step` is the first or the last progress of its run, as far as is known; not a copy of it."""
        orders = [kept.order for kept in (self.progress or {}).get(step.reporter, ())]
        return step.order not in orders and (len(orders) < 2 or not orders[0] < step.order < orders[1])

    def add_progress(self, step: Step) -> None:
        """Add the first or last progress of a run, in the place of the one that it was before."""
        progress = self.progress or _NO_PROGRESS
        before = progress.get(step.reporter, [])
        ordered = sorted([*before, step], key=lambda kept: kept.order)
        kept = [ordered[0], *ordered[1:][-1:]]
        self.progress = {**progress, step.reporter: kept}
        new = self._new_steps()
        for index, report in enumerate(kept):
            if index >= len(before) or report is not before[index]:
                new.written[progress_key(report, is_last=index == 1)] = report
        new.arrived.append(step)
        if len(ordered) > len(kept):
            new.displacing.add(step.order)

    def _new_steps(self) -> NewSteps:
        if self.new is None:
            self.new = NewSteps()
        return self.new


JobKey = tuple[int, str]
"""A connection's number, and the job's external id."""


class Memory:
    """The writer's memory over `driver`: the latest `most` jobs under way, in at most `most_bytes` by their `size`. Up
    to `walked_steps` of a job are walked through; one of more than `long_steps` has parts, each of `part_steps`."""

    def __init__(
        self,
        driver: Driver,
        most: int = JOBS,
        most_bytes: int = JOBS_BYTES,
        walked_steps: int = MOST_WALKED_STEPS,
        long_steps: int = LONG_STEPS,
        part_steps: int = PART_STEPS,
    ) -> None:
        self._driver = driver
        self.long_steps, self.part_steps = long_steps, part_steps
        self._walked_steps = walked_steps
        self._most = most
        self._free = most_bytes
        self._connections: dict[str, int] = {}
        self._labels: defaultdict[LabelKind, dict[str, int]] = defaultdict(dict)
        self._jobs: dict[JobKey, Job] = {}  # in the order of their last event

    def connections(self, ids: Collection[str], now: int) -> dict[str, int]:
        """Return the numbers of all known connections; those of `ids` that are missing in the database are made."""
        if missing := [connection_id for connection_id in ids if connection_id not in self._connections]:
            self._connections |= self._driver.connections(missing, now)
        return self._connections

    def has(self, connection_id: str, external_id: str) -> bool:
        """Return whether a job is in memory. It may be called in any thread."""
        return (self._connections.get(connection_id), external_id) in self._jobs

    def labels(self, kind: LabelKind, texts: Collection[str]) -> dict[str, int]:
        """Return the numbers of all known labels of `kind`; those of `texts` that the database lacks are made."""
        known = self._labels[kind]
        if missing := [text for text in texts if text not in known]:
            if len(known) > _LABELS:
                known = self._labels[kind] = {}
                missing = list(texts)
            for (_, text), number in self._driver.labels([(kind, text) for text in sorted(missing)]).items():
                known[text] = number
        return known

    def jobs(self, keys: Iterable[tuple[int, str, str]]) -> list[Job]:
        """Return for each key (connection, its id, external id) its job: from memory, from the database, or a new one.

        They are no longer in memory: `keep` puts them back.
        """
        jobs: list[Job] = []
        taken: dict[JobKey, Job] = {}
        unsure: list[Job] = []
        for connection, connection_id, external_id in keys:
            key = connection, external_id
            job = taken.get(key)
            if job is None:
                job = self._jobs.pop(key, None)
                self._free += 0 if job is None else job.size
                if job is None:
                    uuid = job_uuid(connection_id, external_id)
                    job = Job(connection, intern(connection_id), external_id, uuid)
                    unsure.append(job)
                elif not self._driver.owns_database:
                    unsure.append(job)
                taken[key] = job
            jobs.append(job)
        if unsure:
            self._load(unsure)
        for job in taken.values():
            job.is_walked = len(job.keys) <= self._walked_steps * KEY_BYTES
        return jobs

    def keep(self, jobs: Iterable[Job]) -> None:
        """Keep those of `jobs`, which are written, that are under way."""
        version = self._driver.version()
        for job in jobs:
            if job.summary is not None and not job.summary.is_final:
                if job.new is not None:
                    job.version, job.new = version, None
                    job.measure()
                self._jobs[job.connection, job.external_id] = job
                self._free -= job.size
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        """Remove the jobs whose last event is the oldest, if there are too many or they are too large."""
        surplus, missing = len(self._jobs) - self._most, -self._free
        removed: list[JobKey] = []
        for key, job in self._jobs.items():
            if surplus <= 0 and missing <= 0:
                break
            removed.append(key)
            surplus, missing = surplus - 1, missing - job.size
        for key in removed:
            self._free += self._jobs.pop(key).size

    def drop(self, uuids: Collection[bytes]) -> None:
        """Discard jobs that were deleted from the database."""
        for key in [key for key, job in self._jobs.items() if job.uuid in uuids]:
            self._free += self._jobs.pop(key).size

    def steps_of(self, jobs: Mapping[int, Job]) -> dict[int, dict[bytes, Step]]:
        """Return the steps of each of `jobs` in the database, by their keys."""
        if not jobs:
            return {}
        return self._decoded(jobs, self._driver.steps_of(sorted(jobs)))

    def steps_with(self, job: Job, keys: Sequence[bytes]) -> dict[bytes, Step]:
        """Return the steps of a job in the database that have these keys."""
        return self._decoded({job.number: job}, self._driver.steps_with(job.number, keys))[job.number]

    def _decoded(self, jobs: Mapping[int, Job], stored: Sequence[StoredStep]) -> dict[int, dict[bytes, Step]]:
        names = self._driver.texts(sorted({row.name for row in stored}))
        steps: dict[int, dict[bytes, Step]] = {number: {} for number in jobs}
        for row in stored:
            job = jobs[row.job]
            steps[row.job][row.key] = decode_step(row.body, job.connection_id, job.external_id, names[row.name])
        return steps

    def _load(self, jobs: Sequence[Job]) -> None:
        """Bring `jobs` to the version that the database has, and give numbers to those that it lacks."""
        new = {job.uuid: job for job in jobs}
        folded: dict[int, Job] = {}
        walked: dict[int, Job] = {}
        for number, uuid, version, fold in self._driver.jobs(sorted(new)):
            job = new.pop(uuid)
            if job.summary is not None and job.version == version:
                continue
            job.number, job.version, job.progress = number, version, None
            if fold is None:
                walked[number] = job
            else:
                folded[number] = job
                job.summary = Summary.from_bytes(fold)
        self._read_keys(folded)
        for number, steps in self.steps_of(walked).items():
            job = walked[number]
            job.summary = summary_of(steps.values())
            job.keys = b"".join(steps)
            job.find_progress(steps.values())
        for job, number in zip(new.values(), self._driver.new_jobs(len(new)), strict=True):
            job.number, job.summary, job.keys, job.progress = number, None, b"", _NO_PROGRESS

    def _read_keys(self, jobs: Mapping[int, Job]) -> None:
        keys: dict[int, list[bytes]] = {number: [] for number in jobs}
        for number, key in self._driver.step_keys(sorted(jobs)):
            keys[number].append(key)
        for number, job in jobs.items():
            job.keys = b"".join(keys[number])
