"""Asynchronous exceptions that strike in our code belong to the host: a time limit, an alarm."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from sluice_agent.async_exceptions import interrupted, is_asynchronous
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import cut_to
from sluice_agent.signals.guard import guarded_receiver

Steps = dict[str, list[dict[str, Any]]]


class TooLongError(Exception):
    """Exception of the host."""


@pytest.fixture(scope="module")
def struck() -> dict[str, Steps]:
    """The results of each action that is struck at every step, by the kind of exception."""
    ended = subprocess.run([sys.executable, "-m", "tests.unit.signals.struck"], check=True, capture_output=True)
    actions: dict[str, Steps] = json.loads(ended.stdout)
    assert all(len(of_kind) > 10 for steps in actions.values() for of_kind in steps.values())
    return actions


def test_a_limit_that_strikes_at_any_step_of_a_report_reaches_the_task(struck: dict[str, Steps]) -> None:
    """A task that limits itself, and reports its progress, would run on without a limit."""
    for steps in struck["progress"].values():
        assert {step["result"] for step in steps[:-1]} == {"raised"}
        assert {step["events"][-1] for step in steps} == {"completed"}
        assert not any(step["dropped"] for step in steps)


def test_a_limit_that_strikes_at_any_step_of_a_publication_reaches_the_task(struck: dict[str, Steps]) -> None:
    """A fan-out task, which does nothing but publish, would run on past its soft limit."""
    for steps in struck["publish"].values():
        assert {step["result"] for step in steps[:-1]} == {"raised"}
        assert not any(step["dropped"] for step in steps)


def test_a_run_that_is_struck_at_any_step_has_an_end(struck: dict[str, Steps]) -> None:
    """A job whose end is not reported looks as if it still ran."""
    for steps in struck["run"].values():
        open_ends = [step for step in steps if step["events"] and step["events"][-1] not in ("completed", "failed")]
        assert len(open_ends) <= 1, "at the one step before Celery calls us: in a worker it fails the job itself"
        assert not any(step["dropped"] for step in steps)


@pytest.mark.parametrize("action", ["plain", "beside"])
def test_a_plain_job_that_is_struck_at_any_step_has_an_end(struck: dict[str, Steps], action: str) -> None:
    """It takes a shorter way: a limit that is lost on it lets a task run on, and an event that is lost looks as if."""
    for steps in struck[action].values():
        assert steps[-1]["events"] == ["active", "completed"]
        open_ends = [step for step in steps if step["events"] and step["events"][-1] not in ("completed", "failed")]
        assert len(open_ends) <= 1, "at the one step before Celery calls us"
        assert not any(step["dropped"] for step in steps)


def raised_in(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller checks which one
        action()
    return caught.value


class Handler:
    """A signal handler that is a method, with arguments of other names."""

    def handle(self, *args: Any) -> None:
        raise TimeoutError(f"signal {args[0]}")


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no such signal here")
def test_an_exception_of_a_signal_handler_is_not_taken_for_ours() -> None:
    """Most handlers raise TimeoutError, which is an OSError: it would be taken for a full disk."""
    before = signal.signal(signal.SIGALRM, Handler().handle)
    try:
        error = raised_in(lambda: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted(error)
    assert not is_asynchronous(raised_in(lambda: open("/no/such/file")))  # noqa: PTH123, SIM115 - it must fail
    assert not is_asynchronous(raised_in(lambda: Handler().handle(14)))


def test_an_exception_that_another_thread_sets_is_not_taken_for_ours() -> None:
    """Timeouts of web servers and of thread pools are raised in this way."""
    ours: dict[str, Any] = {"__name__": "sluice_agent.any"}
    exec("def step(set_in, *args): set_in(*args)", ours)  # it is struck as it returns from C
    set_in, thread = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident())
    for kind in (TooLongError, TimeoutError, SoftTimeLimitExceeded):
        error = raised_in(partial(ours["step"], set_in, thread, ctypes.py_object(kind)))
        assert type(error) is kind
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # as it is where we catch it
        assert is_asynchronous(error)


def test_a_fault_of_ours_is_not_taken_for_asynchronous() -> None:
    """A user's task would fail because of a bug of the agent."""
    assert not is_asynchronous(raised_in(lambda: cut_to(5, 1)))  # type: ignore[arg-type]
    assert not is_asynchronous(raised_in(lambda: {}["missing"]))


def test_a_handler_that_is_entered_within_itself_ends() -> None:
    """An OS signal handler that publishes faster than we can handle would fill the stack, and end its process."""
    dropped: list[str] = []
    depth = 0

    def handle() -> None:
        nonlocal depth
        depth += 1
        signal.raise_signal(signal.SIGALRM)

    sink = Sink(emit=lambda _: None, drop=dropped.append, connection_id="", is_ignored=lambda _: False, redact=None)
    receive = guarded_receiver(sink, handle)
    before = signal.signal(signal.SIGALRM, lambda *_: receive() and None)
    try:
        for _ in range(2):
            receive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert depth == 2 * 3
    assert dropped == ["reentrant"] * 2


@pytest.mark.parametrize(
    ("patching", "waiting"),
    [
        ("import gevent.monkey as m; m.patch_all(); from gevent import spawn", "join"),
        ("import eventlet as m; m.monkey_patch(); from eventlet import spawn", "wait"),
    ],
)
def test_greenlets_are_distinguished_if_threads_are_patched_after_our_import(patching: str, waiting: str) -> None:
    """While a hook waits, other handlers begin: taken for nested calls of one handler, their events are dropped."""
    code = f"""
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import guarded_receiver
{patching}
import time
dropped = []
sink = Sink(emit=None, drop=dropped.append, connection_id="", is_ignored=None, redact=None)
receive = guarded_receiver(sink, lambda: time.sleep(0.01))
for greenlet in [spawn(receive) for _ in range(10)]:
    greenlet.{waiting}()
print(len(dropped))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "0"
