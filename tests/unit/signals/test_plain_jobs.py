"""Plain jobs take a way of their own, which writes the same bytes; all others take the ordinary one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery._state import pop_current_task, push_current_task
from celery.app.task import Context
from celery.worker.request import Request
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle import transitions
from sluice_agent.signals.agent_header import (
    CREATED_AT,
    HEAD,
    MEMBERS,
    PERIODIC_TASK,
    PROCESS,
    PUBLISHED_AT,
    REPLACEMENTS,
    RUN,
    SUCCESSORS,
)
from sluice_agent.signals.current_runs import begin_execution, begin_run, end_execution, run_of
from sluice_agent.signals.main_process import MainProcess
from sluice_agent.signals.message_headers import RARE_HEADERS
from sluice_agent.signals.plain_headers import plain_members
from sluice_agent.signals.plain_jobs import PlainJobs
from tests.unit.signals.observed import STARTED, Observed, message, request_for, run

ID, OTHER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5", "1e2feb89-414c-443c-9027-c4d1c386bbc4"
LATER = "2999-01-01T00:00:00.000000Z"

app = Celery("plain", broker="memory://", backend="cache+memory://", set_as_current=False)


@app.task(name="plain.task", max_retries=5)
def plain_task() -> None: ...


class Watched(Observed):
    """The lines of the jobs of one process, which has the handlers of both ways."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: list[bytes] = []
        self.sink.emit = self.lines.append
        self.main_process = MainProcess(self.sink, self.recorder, self.names, self.requests, self.runs)
        self.plain_jobs = PlainJobs(self.sink, self.names, self.requests)

    def receive_plain(self, request: Request, agent_header: dict[str, str] | None = None) -> bool:
        """Pass the receipt of a message to the way of plain jobs."""
        with self.handling(request, agent_header):
            return self.plain_jobs.received({"request": request})

    def receive_ordinarily(self, request: Request, agent_header: dict[str, str] | None = None) -> None:
        """Pass the receipt of a message to the ordinary way."""
        with self.handling(request, agent_header):
            self.main_process.received(request=request)

    @contextmanager
    def handling(self, request: Request, agent_header: dict[str, str] | None) -> Iterator[None]:
        """Handle the message of a request, whose agent header is taken off already."""
        self.requests._current = request.message, dict(agent_header or {})
        yield
        self.requests._current = None

    @property
    def timeless(self) -> list[bytes]:
        """The lines without the times of now; a job is created now if its producer's clock is ahead."""
        times = re.compile(rb'"(timestamp|startedAt|completedAt|createdAt":"(?!2026-02-27T10))[^,]*|"runtime":0\.\d{6}')
        return [times.sub(rb"\1", line) for line in self.lines]


def request(external_id: str = ID, delivery: dict[str, Any] | None = None, **headers: Any) -> Request:
    """Return a worker's request for a message of a plain job, but for `headers` and the `delivery`."""
    made = message(external_id, plain_task, **{"root_id": external_id, **headers})
    made.properties["priority"] = (delivery or {}).get("priority", 0)
    made.delivery_info.update(delivery or {})
    return request_for(made, plain_task)


@contextmanager
def executing(received: Request, agent_header: dict[str, str], external_id: str = ID) -> Iterator[Context]:
    """Execute a request in this process, as Celery does; the agent header has come with it."""
    context = Context({**received.request_dict, "id": external_id}, args=(), kwargs={}, called_directly=False)
    begin_execution(external_id, agent_header)
    push_current_task(plain_task)
    plain_task.request_stack.push(context)
    try:
        yield context
    finally:
        plain_task.request_stack.pop()
        pop_current_task()
        end_execution()


def arguments(external_id: str = ID, **more: Any) -> dict[str, Any]:
    """Return the arguments of `task_prerun`, or with a state those of `task_postrun`."""
    return {"task": plain_task, "task_id": external_id, "args": (), "kwargs": {}, **more}


DONE = {"state": "SUCCESS", "retval": None}

uuids = st.uuids(version=4).map(str)
moments = st.sampled_from([STARTED, LATER])  # the producer's clock may be ahead


@given(
    external_id=uuids,
    root_id=uuids | st.none() | st.just(""),
    parent_id=uuids | st.none(),
    priority=st.none() | st.integers(-300, 300),
    queue=st.text(min_size=1, max_size=12),
    created=st.none() | moments,
    is_own_process=st.booleans(),
)
def test_both_ways_write_the_same_bytes(
    external_id: str,
    root_id: str | None,
    parent_id: str | None,
    priority: int | None,
    queue: str,
    created: str | None,
    is_own_process: bool,
) -> None:
    """A job would change its name, its queue or its id, and be shown twice, when another library listens as well."""
    plain, ordinary = Watched(), Watched()
    header = {CREATED_AT: created} if created else {}
    delivery = {"priority": priority, "routing_key": queue}
    received = request(external_id, delivery, root_id=root_id, parent_id=parent_id)
    assert plain.receive_plain(received, header)
    carried = dict(plain.requests.of_request(received))
    again = request(external_id, delivery, root_id=root_id, parent_id=parent_id)
    ordinary.receive_ordinarily(again, header)
    if not is_own_process:
        carried[PROCESS] = "5"
    with executing(received, carried, external_id):
        is_plain = created != LATER  # else its producer's clock is ahead
        assert plain.plain_jobs.started(arguments(external_id)) is is_plain
        if not is_plain:
            plain.task_process.prerun(task=plain_task)
        assert plain.plain_jobs.succeeded(arguments(external_id, **DONE)) is is_plain
        if not is_plain:
            plain.task_process.postrun(task=plain_task, state="SUCCESS")
    without_text = {name: value for name, value in carried.items() if name not in (HEAD, MEMBERS)}
    with executing(again, without_text, external_id):
        ordinary.task_process.prerun(task=plain_task)
        ordinary.task_process.postrun(task=plain_task, state="SUCCESS")
    assert plain.timeless == ordinary.timeless
    assert len(plain.lines) == (2 if created else 3)


@pytest.mark.parametrize("created", [None, STARTED])
def test_a_plain_job_that_ends_otherwise_has_the_same_event(created: str | None) -> None:
    """A failure, or the progress before it, would belong to another run than the start."""
    observed, received = Watched(), request(parent_id=OTHER)
    assert observed.receive_plain(received, {CREATED_AT: created} if created else {})
    carried = dict(observed.requests.of_request(received))
    with executing(received, carried) as context:
        assert observed.plain_jobs.started(arguments())
        executed = run_of(context)
        ordinary = observed.task_process._run(plain_task, vars(context), carried).events
    assert executed is not None
    plain = executed.events
    assert (plain.external_id, plain.attempt, plain.run_name) == (ID, 1, ordinary.run_name)
    assert not executed.is_eager
    for transition, details in ((transitions.FAILED, {"error": "E: boom"}), (transitions.RETRIED, {"eta": LATER})):
        assert plain.event(transition, STARTED, **details) == ordinary.event(transition, STARTED, **details)
    assert plain.event(transitions.PROGRESSED, STARTED, progress=0.5) == ordinary.event(
        transitions.PROGRESSED, STARTED, progress=0.5
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"retries": 1},
        {"eta": "2026-02-27T11:00:00+00:00"},
        {"expires": "2026-02-27T11:00:00+00:00"},
        {"group": OTHER},
        {"stamps": {"tenant": "a"}},
        {"shadow": "another name"},
        {"is_eager": True},
        {"periodic_task_name": "nightly"},
        {"replaced_task_nesting": 1},
        {"root_id": "chosen"},
        {"root_id": 7},
        {"parent_id": "chosen"},
        {"parent_id": ["odd"]},
        {HEADER: "attempt"},
    ],
    ids=str,
)
def test_a_job_with_a_rare_header_takes_the_ordinary_way(headers: dict[str, Any]) -> None:
    """Its attempt, its ETA or its stamps would be left out."""
    assert not Watched().receive_plain(request(**headers))


@pytest.mark.parametrize("header", RARE_HEADERS)
def test_no_rare_header_is_forgotten(header: str) -> None:
    """A header that events show would be left out of those of plain jobs."""
    assert plain_members({"id": ID}) is not None
    assert plain_members({"id": ID, header: "any"}) is None


@pytest.mark.parametrize("external_id", ["job", "1", ID.upper(), f"{ID}\n", ID.replace("4adf", "1adf"), 7], ids=repr)
def test_an_id_that_a_caller_has_chosen_takes_the_ordinary_way(external_id: Any) -> None:
    """Two publications under one id would be one, or the line would be no JSON."""
    assert not Watched().receive_plain(request(external_id))


@pytest.mark.parametrize(
    "delivery",
    [{"redelivered": True}, {"priority": "high"}, {"priority": 2**40}, {"exchange": None}, {"routing_key": 5}],
    ids=str,
)
def test_an_odd_delivery_takes_the_ordinary_way(delivery: dict[str, Any]) -> None:
    """A redelivery would not be marked as one; what another client has written would break the line."""
    assert not Watched().receive_plain(request(delivery=delivery))


@pytest.mark.parametrize(
    "agent_header",
    [
        {REPLACEMENTS: "1"},
        {CREATED_AT: STARTED, PUBLISHED_AT: STARTED},
        {CREATED_AT: STARTED, PERIODIC_TASK: "nightly"},
        {CREATED_AT: "1970-01-01T00:00:00.000000Z"},
    ],
    ids=str,
)
def test_a_job_of_which_the_producer_reports_more_takes_the_ordinary_way(agent_header: dict[str, str]) -> None:
    """The name of beat's entry would be missing, or a replacement would be taken for the first task."""
    observed, received = Watched(), request()
    assert not observed.receive_plain(received, agent_header)
    observed.receive_ordinarily(received, agent_header)
    assert HEAD not in observed.requests.of_request(received)


def test_an_ignored_task_is_not_reported() -> None:
    """A user who ignores a task would see its jobs."""
    observed = Watched(ignored=plain_task.name)
    assert not observed.receive_plain(request())
    assert observed.lines == []


def test_what_leads_to_other_jobs_is_carried_on() -> None:
    """The replacement later in a chain would be a new job."""
    observed, received = Watched(), request()
    assert observed.receive_plain(received, {CREATED_AT: STARTED, SUCCESSORS: "{}"})
    assert observed.requests.of_request(received)[SUCCESSORS] == "{}"


def test_a_kind_is_read_anew_after_many_others() -> None:
    """A worker of a topic with endless routing keys would grow."""
    observed = Watched()
    for number in range(1_005):
        assert observed.receive_plain(request(str(uuid.uuid4()), {"routing_key": f"queue {number}"}))
    assert len(observed.plain_jobs._kinds) <= 1_000


def test_a_run_that_has_come_without_the_text_takes_the_ordinary_way() -> None:
    """The main process may have no agent, or another receiver."""
    observed, received = Watched(), request()
    assert not observed.plain_jobs.started(arguments())
    with executing(received, {RUN: "w@h/1/a.0"}):
        assert not observed.plain_jobs.started(arguments())
    observed.receive_plain(received)
    with executing(received, dict(observed.requests.of_request(received)), OTHER):
        assert not observed.plain_jobs.started(arguments(ID)), "the newest request of this thread is another job's"


def test_the_run_in_a_pool_process_has_the_number_of_that() -> None:
    """The main process reports its end under the same id."""
    observed, received = Watched(), request()
    observed.receive_plain(received)
    with executing(received, {**observed.requests.of_request(received), PROCESS: "5"}) as context:
        observed.plain_jobs.started(arguments())
        executed = run_of(context)
    received.worker_pid = 5
    ended = observed.runs.of_request(received)
    assert executed is not None
    assert ended is not None
    assert executed.events.event(transitions.FAILED, STARTED) == ended.events.event(transitions.FAILED, STARTED)


def started(observed: Watched, received: Request) -> dict[str, str]:
    """Receive a plain job; return what is carried to its process."""
    observed.receive_plain(received)
    return dict(observed.requests.of_request(received))


@pytest.mark.parametrize("state", ["FAILURE", "RETRY", "IGNORED", "REJECTED", None])
def test_another_end_than_success_takes_the_ordinary_way(state: str | None) -> None:
    """A job that fails would have completed."""
    observed, received = Watched(), request()
    with executing(received, started(observed, received)):
        observed.plain_jobs.started(arguments())
        assert not observed.plain_jobs.succeeded(arguments(state=state))


def test_a_captured_result_takes_the_ordinary_way() -> None:
    """A user who asks for results would get none."""
    observed, received = Watched(redact=lambda _, value: value), request()
    with executing(received, started(observed, received)):
        observed.plain_jobs.started(arguments())
        assert not observed.plain_jobs.succeeded(arguments(**DONE))


def test_a_run_that_did_more_takes_the_ordinary_way() -> None:
    """Its last progress, its own retry or the end that it stored would be lost."""
    observed = Watched()

    def ends_plainly(act: Any) -> bool:
        received = request()
        with executing(received, started(observed, received)) as context:
            observed.plain_jobs.started(arguments())
            executed = run_of(context)
            assert executed is not None
            act(executed)
            return observed.plain_jobs.succeeded(arguments(**DONE))

    recorder = observed.recorder
    assert not ends_plainly(lambda executed: [recorder.record_progress(executed, n / 4) for n in (1, 2)])
    assert not ends_plainly(lambda executed: recorder.record_published_retry(executed, None))
    assert not ends_plainly(lambda executed: recorder.record_stored_state(executed, "FAILURE", None))


def test_a_success_that_can_not_be_stored_takes_the_ordinary_way() -> None:
    """The failure that corrects it would belong to no run."""
    observed, received = Watched(), request()
    with executing(received, started(observed, received)):
        observed.plain_jobs.started(arguments())
        try:
            raise ConnectionError("away")  # noqa: TRY301 - as a result backend does
        except ConnectionError:
            assert not observed.plain_jobs.succeeded(arguments(**DONE))


def test_a_task_that_is_called_within_another_does_not_end_that() -> None:
    """The outer job would have completed while it still runs, if both have one id."""
    observed, received = Watched(), request()
    with executing(received, started(observed, received)):
        observed.plain_jobs.started(arguments())
        inner = Context({"id": ID})
        assert not observed.plain_jobs.started(arguments())
        begin_run(inner, run(ID))
        assert not observed.plain_jobs.succeeded(arguments(**DONE))
        assert not observed.plain_jobs.succeeded(arguments(**DONE)), "the outer one then ends ordinarily"


def test_an_ignored_task_that_is_called_within_another_does_not_end_that() -> None:
    """The outer job would have completed while it still runs: nothing but the two signals shows the inner one."""
    observed, received = Watched(), request()
    with executing(received, started(observed, received)):
        observed.plain_jobs.started(arguments())
        assert not observed.plain_jobs.started(arguments())
        assert not observed.plain_jobs.succeeded(arguments(**DONE))
