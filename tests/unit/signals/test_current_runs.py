"""The runs that this process executes, by the request of each."""

from __future__ import annotations

import gc
from weakref import ref

from celery.app.task import Context

from sluice_agent.signals.current_runs import (
    agent_header_here,
    agent_header_of,
    begin_batch,
    begin_execution,
    begin_run,
    current_agent_header,
    current_batch,
    current_execution,
    current_run,
    end_batch,
    end_execution,
    run_of,
    unstored_run,
)
from tests.unit.signals.observed import executing, run, task


def test_a_task_has_the_run_of_its_own_request() -> None:
    """A task that another one calls in its process would end the run of its caller."""
    with executing() as outer:
        begin_run(outer, outer_run := run())
        with executing(external_id="inner") as inner:
            assert current_run(task) is None
            begin_run(inner, inner_run := run("inner"))
            assert current_run(task, "inner") is inner_run
        assert current_run(task, "job") is outer_run
        assert current_run(task, "other") is None
    assert current_run(None) is None


def test_the_agent_header_is_known_before_the_run_begins_and_after() -> None:
    """A task that publishes others in `before_start`, or in its body, would lose the creation time of its job."""
    with executing() as context:
        begin_execution("job", {"run": "a"})
        assert (run_of(context), agent_header_of(context)) == (None, {"run": "a"})
        begin_run(context, executed := run())
        end_execution()
        assert run_of(context) is executed
        assert current_agent_header(task) is executed.agent_header
    assert current_agent_header(None) == {}


def test_a_call_within_a_job_under_its_id_has_no_header_of_it() -> None:
    """A task that calls another one under its own id would give that the creation time, and the run, of its job."""
    begin_execution("job", {"run": "a"})
    with executing(is_eager=True) as within:
        assert (run_of(within), agent_header_of(within)) == (None, {})
    with executing(external_id="other") as other:
        assert agent_header_of(other) == {}
    end_execution()
    with executing() as later:
        assert agent_header_of(later) == {}


def test_a_request_that_is_cleared_has_its_run() -> None:
    """A job whose task clears its request, and then stores a state, would never end."""
    executed = run()
    with executing() as context:
        begin_execution("job", {})
        execution = current_execution()
        assert execution is not None
        execution.has_begun, execution.run = True, executed
        context.clear()
        assert run_of(Context()) is None
        assert current_run(task) is executed
        assert current_run(task) is executed
        end_execution()


def test_what_is_published_in_a_plain_job_is_found_by_the_thread() -> None:
    """A replacement that is published by a later part of a chain would be a new job."""
    gc.collect()  # the requests of other tests
    assert agent_header_here() == {}
    begin_execution("job", {"run": "a"})
    assert agent_header_here() == {"run": "a"}
    with executing(external_id="other") as other:
        begin_run(other, executed := run())
        assert agent_header_here() is executed.agent_header
    end_execution()


def test_a_run_is_freed_with_its_request() -> None:
    """A worker would grow with every job."""
    with executing() as context:
        begin_run(context, run())
    executed = ref(context)
    del context
    gc.collect()
    assert executed() is None


def test_the_jobs_of_a_batch_have_the_request_of_that() -> None:
    """The end that a batch stores for one of its jobs would be taken for that of none."""
    with executing(external_id=None) as context:
        begin_batch(context, {"a": run("a"), "b": run("b")})
        assert current_run(task, "a") is current_batch(context)["a"]
        assert current_run(task) is None
        end_batch(context)
        assert current_batch(context) == {}


def test_a_run_whose_result_is_not_stored_is_found_after_its_end() -> None:
    """Its failure, announced when the request is current no more, would be reported without the error, or never."""
    error = ConnectionError()
    with executing() as context:
        begin_run(context, executed := run())
        executed.unstored_by = id(error)
    assert current_run(task, "job") is None
    assert unstored_run("job", error) is executed
    assert unstored_run("job", ConnectionError()) is None
    assert unstored_run("other", error) is None
    assert Context() is not context
