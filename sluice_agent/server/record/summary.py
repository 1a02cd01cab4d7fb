"""The summary of a job: what lists show of its record, and what the next step needs in order to go on from there.

Invariant: whatever the order in which a job's steps arrived, the summary that `advanced` has brought as far is equal to
`summary_of` all of them, and `record_of` the same steps shows the same values: a list and a record never disagree.
`advanced` takes a step only if that is certain without the others. Where it returns None, the caller reads the job's
steps and calls `walk`.

Of the progress that one run reports, the database keeps the first step and the last. A step that is left out for that
must have changed nothing but the progress: whether that is so of the last step, `Summary.replaces` returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from sys import intern
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct
from pydantic_core import from_json, to_json

from sluice_agent.model import UNNAMED, Framework, JobState
from sluice_agent.server.record.history import Entry, History, Placement, Run, begun_by, followed_by
from sluice_agent.server.record.step import ENDED, Step
from sluice_agent.server.timestamps import milliseconds_between

_STATES = tuple(state.value for state in JobState)
_CODES = {state: code for code, state in enumerate(_STATES)}
_FRAMEWORKS = tuple(framework.value for framework in Framework)
_CLASS_NAME = re.compile(r"(\w+\.)*(?P<last>[^\W\d]\w*)", re.ASCII)
_LONGEST_CLASS_NAME = 255
_LONGEST_ID = 512  # characters, as `Identifier` of the model


class Facts(Struct, frozen=True, gc=False, array_like=True):
    """Fields of the job as a whole, each from the last event that has it. Times are instants.

    Names are interned, and an own id is the object that it was: thousands of summaries are in memory.
    """

    name: str
    queue: str | None
    worker: str | None
    framework: str
    eta: int | None
    expires: int | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    dispatched: int | None
    """The earliest of the creation times that events name."""
    first_known: int
    """The earliest time of any event, or of the start that it names."""


class Summary(Struct, frozen=True, gc=False, array_like=True):
    """A job's history and facts, up to the step with `order`. Properties that are times are in microseconds."""

    history: History
    facts: Facts
    order: tuple[int, int, int]
    is_replaceable: bool
    """The last step reported progress, and changed nothing else."""

    @property
    def state(self) -> str:
        """The present state."""
        return self.history.entry.state

    @property
    def is_final(self) -> bool:
        """True if the job has ended."""
        return self.history.entry.state in ENDED

    @property
    def attempt(self) -> int:
        """The attempt of the present state."""
        return self.history.entry.attempt

    @property
    def error(self) -> str | None:
        """The error of the present state."""
        return self.history.entry.error

    @property
    def error_class(self) -> str | None:
        """The class of the error, if its text begins with one."""
        return _class_in(self.history.entry.error)

    @property
    def created_at(self) -> int:
        """The creation, or the first known moment if no event names it."""
        dispatched = self.facts.dispatched
        return (self.facts.first_known if dispatched is None else dispatched) // 1_000

    @property
    def changed_at(self) -> int:
        """The beginning of the present state."""
        return self.history.entry.at // 1_000

    @property
    def started_at(self) -> int | None:
        """The start of the last run."""
        started = self.history.run.started
        return None if started is None else started // 1_000

    @property
    def completed_at(self) -> int | None:
        """The end of the last run."""
        completed = self.history.completed
        return None if completed is None else completed // 1_000

    @property
    def scheduled_for(self) -> int | None:
        """The time before which the job may not start."""
        return None if self.facts.eta is None else self.facts.eta // 1_000

    @property
    def expires_at(self) -> int | None:
        """The time after which the job may not start."""
        return None if self.facts.expires is None else self.facts.expires // 1_000

    @property
    def duration_ms(self) -> int | None:
        """The milliseconds that the last run took."""
        started, completed = self.history.run.started, self.history.completed
        return None if started is None or completed is None else milliseconds_between(started, completed)

    @property
    def reported_at(self) -> int:
        """The instant of the last step."""
        return self.order[0] // 1_000

    def replaces(self, step: Step) -> bool:
        """Return whether `step` may overwrite the last step: both report progress of the same run, and no more."""
        return self.is_replaceable and step.is_progress and step.reporter == self.history.run.reporter

    def to_bytes(self) -> bytes:
        """Return the summary as `from_bytes` reads it. Times are relative to the last step's, and so short."""
        history, facts, (base, attempt, rank) = self.history, self.facts, self.order
        previous, entry, run = history.previous, history.entry, history.run
        fields: list[Any] = [base, attempt, rank, history.runs, int(history.first_waits), base - history.first_at]
        times = (
            entry.created, entry.completed, run.queued, run.ready, run.start, run.started, facts.eta, facts.dispatched,
        )  # fmt: skip
        fields += [None if time is None else base - time for time in times]
        fields += [
            previous and _CODES[previous],
            _CODES[entry.state],
            base - entry.at,
            entry.attempt,
            int(entry.is_redelivered),
            entry.error,
            entry.reported_previous and _CODES[entry.reported_previous],
            1 if run.worker == facts.worker else run.worker,
            _FRAMEWORKS.index(facts.framework),
            base - facts.first_known,
            facts.name,
            facts.queue,
            facts.worker,
            facts.root_id,
            facts.group_id,
        ]
        rare = [facts.parent_id, entry.location, None if facts.expires is None else base - facts.expires]
        if rare != [None, None, None]:
            fields.append(rare)
        if run.reporter is not None:
            fields += [run.progress, run.reporter, int(self.is_replaceable)]
        return to_json(fields)

    @classmethod
    def from_bytes(cls, fold: bytes) -> Summary:
        """Return the summary that `to_bytes` has returned."""
        fields = from_json(fold)
        base, attempt, rank, runs, first_waits, first_at = fields[:6]
        created, completed, queued, ready, start, started, eta, dispatched = [
            None if time is None else base - time for time in fields[6:14]
        ]
        (
            previous, state, at, entry_attempt, is_redelivered, error, reported_previous, run_worker, framework,
            first_known, name, queue, worker, root_id, group_id, *optional,
        ) = fields[14:]  # fmt: skip
        has_rare = optional and isinstance(optional[0], list)  # it is left out where nothing of it is known
        parent_id, location, expires = optional.pop(0) if has_rare else (None, None, None)
        progress, reporter, is_replaceable = optional or (None, None, 0)
        entry = Entry(
            _STATES[state],
            base - at,
            entry_attempt,
            bool(is_redelivered),
            created,
            completed,
            error,
            location,
            None if reported_previous is None else _STATES[reported_previous],
        )
        reporter = None if reporter is None else tuple(reporter)
        run = Run(queued, ready, start, started, progress, reporter, worker if run_worker == 1 else run_worker)
        previous = None if previous is None else _STATES[previous]
        history = History(runs, bool(first_waits), base - first_at, previous, entry, run)
        known_from = base - first_known
        expires = None if expires is None else base - expires
        ids = root_id, parent_id, group_id
        facts = Facts(name, queue, worker, _FRAMEWORKS[framework], eta, expires, *ids, dispatched, known_from)
        return cls(history, facts, (base, attempt, rank), bool(is_replaceable))


State: TypeAlias = tuple[str, int]
"""A state, and the instant at which it began."""


class Walk(NamedTuple):
    """All steps of a job, taken in their order: its summary, its states, and the runs that are over."""

    summary: Summary
    first: list[State]
    """Those of the states that belong before all others, whenever they were reported."""
    states: list[State]
    past: list[History]
    """The history at the end of each run but the last."""
    excluded: list[Step]
    steps: list[Step]
    """All but repeated progress, in the order in which a later one replaces the fields of one before."""
    last_state_steps: list[Step]
    """Those of them that report the present state."""

    @property
    def earlier(self) -> int:
        """The number of states before `states`."""
        return 0


class Course:
    """What steps come to, taken one by one in their order after those of `history`."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.placement: Placement = "new run"
        self.first: list[State] = []
        """States that belong before all others, of `dispatch`."""
        self.states: list[State] = []
        self.past: list[History] = []
        self.excluded: list[Step] = []
        self.dispatch: list[Step] = []
        self.included: list[Step] = []
        self.last_state_steps: list[Step] = []
        self.has_new_state = False
        self.order = (0, 0, 0)
        """That of the last step, without its key."""

    def take(self, step: Step) -> None:
        """Take the next step."""
        before, self.order = self.history, step.order[:3]
        self.placement, self.history = followed_by(before, step)
        if self.placement == "excluded":
            self.excluded.append(step)
        elif self.placement == "first":
            self.dispatch.append(step)
            self.first.insert(0, (step.state, self.history.first_at))
        elif self.placement != "progress":
            self.included.append(step)
            if self.placement == "same":
                self.last_state_steps.append(step)
            else:
                self.begin_state(step)
                if self.placement == "new run":
                    self.past.append(before)

    def begin_state(self, step: Step) -> None:
        """Add the state that `step` begins."""
        self.states.append((step.state, step.timestamp))
        self.last_state_steps = [step]
        self.has_new_state = True


def summary_of(steps: Iterable[Step]) -> Summary:
    """Return the summary of all `steps` of a job, in any order. There is at least one."""
    return walk(steps).summary


def advanced(summary: Summary | None, step: Step, *, keeps_counts: bool = False) -> Summary | None:
    """Return the summary with one further step, or the one of a new job; None if the job must be walked through.

    That is so for a step that is not the last in order, or does not follow from the last state; and for another name
    or queue, if runs have been counted under the one before, unless it `keeps_counts` of these.
    """
    if summary is None:
        return Summary(begun_by(step), _facts_of(step), step.order[:3], False)
    order = step.order[:3]
    if order <= summary.order:
        return None
    placement, history = followed_by(summary.history, step)
    if placement == "progress":
        return Summary(history, summary.facts, order, True)
    if placement in ("excluded", "first"):
        return None
    before = summary.facts
    facts = _facts_with(before, step)
    if not keeps_counts and history.runs > 1 and (facts.name != before.name or facts.queue != before.queue):
        return None
    return Summary(history, facts, order, False)


def course_of(steps: Iterable[Step], after: History | None = None) -> Course:
    """Take `steps`, given in any order, which come after those of a history; None: they are the first of a job."""
    ordered = sorted(steps, key=lambda step: step.order)
    if after is not None:
        course = Course(after)
    else:
        first = ordered.pop(0)
        course = Course(begun_by(first))
        course.order = first.order[:3]
        course.included.append(first)
        course.begin_state(first)
    for step in ordered:
        course.take(step)
    return course


def walk(steps: Iterable[Step]) -> Walk:
    """Walk through all `steps` of a job, given in any order. There is at least one."""
    course = course_of(steps)
    all_steps = [*course.excluded, *course.dispatch, *course.included]
    facts = _facts_of(all_steps[0])
    for step in all_steps[1:]:
        facts = _facts_with(facts, step)
    summary = Summary(course.history, facts, course.order, course.placement == "progress")
    states = [*course.first, *course.states]
    return Walk(summary, course.first, states, course.past, course.excluded, all_steps, course.last_state_steps)


def _facts_of(step: Step) -> Facts:
    job, extensions = step.job, step.extensions
    root_id = id_or_none(extensions.get("rootId"))
    return Facts(
        intern(job["name"]),
        intern(job["queue"]) if "queue" in job else None,
        intern(job["workerId"]) if "workerId" in job else None,
        step.event["framework"],
        step.eta,
        step.expires,
        job["externalId"] if root_id == job["externalId"] else root_id,
        id_or_none(extensions.get("parentId")),
        id_or_none(extensions.get("groupId")),
        step.created,
        _first_moment(step),
    )


def _facts_with(facts: Facts, step: Step) -> Facts:
    """Return `facts` with those of a later step, where a name replaces none."""
    job, extensions = step.job, step.extensions
    eta, expires, dispatched = facts.eta, facts.expires, facts.dispatched
    root_id, parent_id, group_id = facts.root_id, facts.parent_id, facts.group_id
    if extensions:
        if extensions.get("eta") is not None:
            eta = step.eta
        if extensions.get("expires") is not None:
            expires = step.expires
        if "rootId" in extensions and extensions["rootId"] != root_id:
            root_id = id_or_none(extensions["rootId"])
        if "parentId" in extensions:
            parent_id = id_or_none(extensions["parentId"])
        if "groupId" in extensions:
            group_id = id_or_none(extensions["groupId"])
    if step.created is not None:
        dispatched = step.created if dispatched is None else min(dispatched, step.created)
    later = Facts(
        facts.name if job["name"] == UNNAMED else intern(job["name"]),
        intern(job["queue"]) if "queue" in job else facts.queue,
        intern(job["workerId"]) if "workerId" in job else facts.worker,
        step.event["framework"],
        eta,
        expires,
        root_id,
        parent_id,
        group_id,
        dispatched,
        min(facts.first_known, _first_moment(step)),
    )
    return facts if later == facts else later  # the same object shows others at once that nothing has changed


def _first_moment(step: Step) -> int:
    return step.timestamp if step.started is None else min(step.timestamp, step.started)


def _class_in(error: str | None) -> str | None:
    """Return the text before the first colon, if it is a class's name: in dotted form, or with a capital letter."""
    if not error:
        return None
    text = error.partition(":")[0]
    match = _CLASS_NAME.fullmatch(text) if len(text) <= _LONGEST_CLASS_NAME else None
    return text if match and ("." in text or text != text.lower()) else None


def id_or_none(value: Any) -> str | None:
    """Return `value` if it can be the id of a job: extensions may have any type, and any length."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID else None
