"""Deduplication ids: the facts that they depend on, and those that they do not."""

from __future__ import annotations

import re
import subprocess
import sys
from uuid import NAMESPACE_DNS, uuid4, uuid5

from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.lifecycle.identity import (
    agent_run_name,
    is_named_by,
    job_event_id,
    publication_of,
    run_in,
    run_of,
    worker_event_id,
)

JOB = ("connection", "job-1", "active", 1)
WORKER = ("connection", "celery@a", "online", 7, 3)
any_text = st.text(st.characters(), max_size=20)  # lone surrogates included


def test_an_id_is_the_same_in_every_process() -> None:
    """Were it not, a worker's event and a sidecar's event of one transition would be shown and billed twice."""
    code = f"from sluice_agent.lifecycle.identity import *; print(job_event_id(*{JOB!r}), worker_event_id(*{WORKER!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.split() == [job_event_id(*JOB), worker_event_id(*WORKER)]


def test_ids_stay_what_they_were() -> None:
    """Workers of two versions of the agent may watch one queue: another digest would double every event there."""
    assert job_event_id(*JOB) == "job-1.1.e3f59e5ec22af650d922def97ece84ca.active"
    assert worker_event_id(*WORKER) == "f92ef306ba019922469c0077ae16891a"


def test_transitions_that_differ_have_different_ids() -> None:
    """Two transitions under one id would be one to the endpoint, and the second would be lost."""
    ids = [
        job_event_id(*JOB),
        job_event_id("other", *JOB[1:]),
        job_event_id("connection", "job-2", "active", 1),
        job_event_id("connection", "job-1", "failed", 1),
        job_event_id("connection", "job-1", "active", 2),
        job_event_id(*JOB, run_name="w/1/0"),
        job_event_id(*JOB, run_name="w/1/0r"),
        job_event_id(*JOB, progress=0.0),
        job_event_id(*JOB, progress=0.5),
        worker_event_id(*WORKER),
        worker_event_id(*WORKER[:4], 4),
        worker_event_id("connection", "celery@a", "offline", 7, 3),
    ]
    assert len(set(ids)) == len(ids)


@given(any_text, any_text)
def test_an_id_can_be_made_of_any_text(external_id: str, run_name: str) -> None:
    """A job with a strange id would raise inside the user's task, and never be seen."""
    made = job_event_id("connection", external_id, "active", 1, run_name=run_name)
    assert re.fullmatch(r"[\w:@/+-]{1,64}\.1\.[0-9a-f]{32}\.active", made, re.ASCII)
    assert made == job_event_id("connection", external_id, "active", 1, run_name=run_name)


@given(any_text, any_text, any_text, any_text)
def test_a_boundary_between_fields_can_not_be_moved(first: str, second: str, third: str, fourth: str) -> None:
    """`ab`+`c` and `a`+`bc` are two jobs: under one id the second would be lost."""
    plain = [text.replace("\x1f", "") for text in (first, second, third, fourth)]
    same = plain[:2] == plain[2:]
    assert (job_event_id(plain[0], plain[1], "active", 1) == job_event_id(plain[2], plain[3], "active", 1)) is same


def test_a_run_is_named_by_its_four_facts() -> None:
    """A sidecar spells the run as the worker does, or a redelivered job's second run is taken for its first."""
    assert run_of("celery@a", 7, 0, redelivered=False) == "celery@a/7/0"
    assert run_of("celery@a", 7, 2, redelivered=True) == "celery@a/7/2r"


def test_each_run_has_another_name() -> None:
    """A restarted container has the same name and pid: its runs would be taken for the earlier ones."""
    facts = [
        ("celery@a", 1, "token", 0),
        ("celery@a", 1, "token", 1),
        ("celery@a", 1, "next", 0),
        ("celery@b", 1, "", 0),
    ]
    assert len({agent_run_name(*fact) for fact in facts}) == len(facts)


def test_a_run_belongs_to_the_process_that_executes_it() -> None:
    """A pool may give one receipt to two processes: under one id the end of the second run would be lost."""
    run_name = agent_run_name("celery@a", 12, "token", 0)
    assert len({run_in(run_name, ""), run_in(run_name, "123"), run_in(run_name, "124")}) == 3
    assert run_in(run_name, "") == run_name
    assert is_named_by(run_name, 12)
    assert not is_named_by(run_name, 2)


def test_a_publication_is_distinguished_if_its_id_may_recur() -> None:
    """`nightly-report` waits every night; for an id that Celery has made, every observer gets the same event id."""
    monday, tuesday = "2026-11-23T03:00:00.000000Z", "2026-11-24T03:00:00.000000Z"
    assert publication_of("nightly-report", monday) != publication_of("nightly-report", tuesday)
    named = str(uuid5(NAMESPACE_DNS, "nightly-report"))
    assert publication_of(named, monday) != publication_of(named, tuesday)
    assert publication_of(str(uuid4()), monday) == ""
