"""The summary of a job, advanced step by step, against a walk through all of its steps."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sluice_agent.server.record.error_location import location_of
from sluice_agent.server.record.measures import Count, WorkerCount, changes, changes_of_walk
from sluice_agent.server.record.record import record_of
from sluice_agent.server.record.step import Step
from sluice_agent.server.record.summary import Summary, advanced, walk
from sluice_agent.server.timestamps import moment_of, timestamp_of
from tests.support.examples import examples
from tests.support.records import steps_of
from tests.unit.server.events import job_event
from tests.unit.server.lives import events, in_order, lives, plain_life, reports


def dispatches() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return the events of jobs whose producer's clock may be ahead of that of the worker."""
    facts = st.sampled_from([{}, {"queue": "q"}, {"queue": "r"}])
    steps = st.tuples(st.sampled_from(["queued", "active", "completed", "retrying"]), facts)
    return st.lists(steps, min_size=2, max_size=5).map(in_order)


ONE, TWO = {"progress": 0.5, "workerId": "celery@a"}, {"progress": 0.5, "workerId": "celery@b"}
TWO_REPORTERS = in_order(
    [
        ("active", ONE),
        ("unknown", {}),
        ("active", {**ONE, "queue": "q"}),  # the next report of this worker takes its place, but not that of the last
        ("active", TWO),
        ("active", TWO),
        ("active", ONE),
    ]
)


class StoredJob:
    """A job as the store keeps it: its steps, the summary that goes with them, and what was added to the counts."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.summary: Summary | None = None
        self.counts: Counter[Count | WorkerCount] = Counter()
        self.walks = 0

    def take(self, step: Step) -> None:
        """Add `step`, unless it is known, or is progress between the first and the last of its run."""
        if any(known.order == step.order for known in self.steps):
            return
        before, left_out = list(self.steps), None
        if step.is_progress:
            reports = [known for known in self.steps if known.is_progress and known.reporter == step.reporter]
            ordered = sorted([*reports, step], key=lambda report: report.order)
            left_out = ordered[1] if len(ordered) == 3 else None
        if left_out is step:
            return
        self.steps = [known for known in [*self.steps, step] if known is not left_out]
        is_simple = left_out is None or (self.summary is not None and self.summary.replaces(step))
        after = advanced(self.summary, step) if is_simple else None
        if after is not None:
            self.counts.update(changes(self.summary, after))
        else:
            self.walks += 1
            walked = walk(self.steps)
            after = walked.summary
            self.counts.update(changes_of_walk(walk(before) if before else None, walked))
        self.summary = Summary.from_bytes(after.to_bytes())
        assert self.summary == after


@settings(max_examples=examples(200), deadline=None)
@given(lives() | reports() | dispatches())
@example(TWO_REPORTERS)
def test_a_summary_is_that_of_all_steps_whatever_the_order_in_which_they_arrive(events: list[dict[str, Any]]) -> None:
    """A list would otherwise show another state than the job's page, and the counts would drift for ever."""
    job = StoredJob()
    for step in steps_of(events):
        job.take(step)
        walked = walk(job.steps)
        assert job.summary == walked.summary
        assert {count: n for count, n in job.counts.items() if n} == changes_of_walk(None, walked)


@given(lives(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_in_no_summary(events: list[dict[str, Any]], chance: random.Random) -> None:
    """Two servers that receive the same events would otherwise show two different jobs."""
    one, other = StoredJob(), StoredJob()
    steps = list(steps_of(events))
    for step in steps:
        one.take(step)
    for step in chance.sample(steps, len(steps)):
        other.take(step)
    assert one.summary == other.summary
    if steps:
        assert record_of(one.steps) == record_of(other.steps)


@given(st.lists(events(), min_size=1, max_size=8))
def test_lists_show_what_the_record_shows(events: list[dict[str, Any]]) -> None:
    """A job would otherwise change as its page is opened."""
    walked = walk(steps_of(events))
    record, summary, facts = record_of(steps_of(events)), walked.summary, walked.summary.facts
    shown = (record["state"], record["attempt"], record["error"], record["name"], record["queue"], record["workerId"])
    assert shown == (summary.state, summary.attempt, summary.error, facts.name, facts.queue, facts.worker)
    moments = [summary.created_at, summary.changed_at, summary.started_at, summary.completed_at, summary.scheduled_for]
    names = ["createdAt", "stateChangedAt", "startedAt", "completedAt", "scheduledFor"]
    assert [record[name] for name in names] == [moment and timestamp_of(moment) for moment in moments]
    assert (record["durationMs"], record["rootId"]) == (summary.duration_ms, facts.root_id)
    assert record["parentId"] == facts.parent_id
    assert summary.expires_at == moment_of(record["extensions"].get("expires"))
    assert summary.history.entry.location == (record["stacktrace"] and location_of(record["stacktrace"]))
    assert record["previousState"] == summary.history.previous_state
    assert record["stateHistory"][-1] == {"state": record["state"], "timestamp": record["stateChangedAt"]}


def test_a_job_whose_events_arrive_in_order_is_never_walked_through() -> None:
    """Each event would otherwise read all events of its job before it: with progress, that never ends."""
    job = StoredJob()
    for step in steps_of(plain_life(3)):
        job.take(step)
    assert job.walks == 0
    assert len(job.steps) == 1 + 3 * 4


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        ("ValueError: no", "ValueError"),
        ("celery.exceptions.Retry: later: again", "celery.exceptions.Retry"),
        ("zlib.error: -3", "zlib.error"),
        ("KeyError", "KeyError"),
        ("killed by signal 9", None),
        ("error: no", None),
        ("3.5: no", None),
        (": no", None),
        ("A" * 300 + ": no", None),
        (None, None),
    ],
)
def test_the_class_of_an_error_begins_its_text(error: str | None, error_class: str | None) -> None:
    """Errors could otherwise not be grouped, or each message would be a group of its own."""
    failed = job_event("failed", 1, **({"error": error} if error is not None else {}))
    assert walk(steps_of([failed])).summary.error_class == error_class
