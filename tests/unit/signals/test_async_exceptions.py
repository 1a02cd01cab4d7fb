"""What is raised asynchronously, into the middle of our code, belongs to the host: a time limit, an alarm."""

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
from sluice_agent.model import cut_to
from sluice_agent.signals.context import Sink, guarded_receiver

Steps = dict[str, list[dict[str, Any]]]


class TooLongError(Exception):
    """The host's own."""


def struck(action: str) -> Steps:
    """What comes of an action that is struck at each of its steps, by the kind of exception."""
    run = subprocess.run([sys.executable, "-m", "tests.unit.signals.struck", action], check=True, capture_output=True)
    steps: Steps = json.loads(run.stdout)
    assert all(len(found) > 10 for found in steps.values())
    return steps


def test_whatever_step_of_a_report_is_struck_the_limit_reaches_the_task() -> None:
    """A task that limits itself, and reports its progress, would run on without a limit."""
    for steps in struck("progress").values():
        assert {step["became"] for step in steps[:-1]} == {"raised"}
        assert {step["events"][-1] for step in steps} == {"completed"}
        assert not any(step["dropped"] for step in steps)


def test_whatever_step_of_a_publication_is_struck_the_limit_reaches_the_task() -> None:
    """A fan-out task, which does nothing but publish, would run on past its soft limit."""
    for steps in struck("publish").values():
        assert {step["became"] for step in steps[:-1]} == {"raised"}
        assert not any(step["dropped"] for step in steps)


def test_whatever_step_of_a_run_is_struck_the_run_comes_to_an_end() -> None:
    """A job whose end is lost looks like one that still runs."""
    for steps in struck("run").values():
        open_ends = [step for step in steps if step["events"] and step["events"][-1] not in ("completed", "failed")]
        assert len(open_ends) <= 1, "that Celery has not called us yet: it fails the job itself, in a worker"
        assert not any(step["dropped"] for step in steps)


def raised_in(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any: what it is is the question
        action()
    return caught.value


class Handler:
    """A signal handler that is a method, and takes what it is given by any name."""

    def handle(self, *args: Any) -> None:
        raise TimeoutError(f"signal {args[0]}")


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no such signal here")
def test_what_a_signal_handler_raises_is_not_taken_for_our_own() -> None:
    """Most handlers raise TimeoutError, which is an OSError: it would be taken for a disk that is full."""
    before = signal.signal(signal.SIGALRM, Handler().handle)
    try:
        error = raised_in(lambda: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted(error)
    assert not is_asynchronous(raised_in(lambda: open("/no/such/file")))  # noqa: PTH123, SIM115 - it is to fail
    assert not is_asynchronous(raised_in(lambda: Handler().handle(14)))


def test_what_another_thread_sets_is_not_taken_for_our_own() -> None:
    """Timeouts of web servers and of thread pools are raised in this way."""
    ours: dict[str, Any] = {"__name__": "sluice_agent.any"}
    exec("def step(set_in, *args): set_in(*args)", ours)  # it is struck as it returns from C
    set_in, thread = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident())
    for kind in (TooLongError, TimeoutError, SoftTimeLimitExceeded):
        error = raised_in(partial(ours["step"], set_in, thread, ctypes.py_object(kind)))
        assert type(error) is kind
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # as where we catch it
        assert is_asynchronous(error)


def test_a_fault_of_our_own_stays_with_us() -> None:
    """A task must not fail for a bug of its observer's."""
    assert not is_asynchronous(raised_in(lambda: cut_to(5, 1)))  # type: ignore[arg-type]
    assert not is_asynchronous(raised_in(lambda: {}["missing"]))


def test_a_handler_in_the_middle_of_itself_comes_to_an_end() -> None:
    """An OS signal handler that publishes more often than we can follow would fill the stack, and end its process."""
    drop: list[str] = []
    depth = 0

    def handle() -> None:
        nonlocal depth
        depth += 1
        signal.raise_signal(signal.SIGALRM)

    sink = Sink(emit=lambda _: None, drop=drop.append, connection_id="", is_ignored=lambda _: False, redact=None)
    receive = guarded_receiver(sink, handle)
    before = signal.signal(signal.SIGALRM, lambda *_: receive() and None)
    try:
        for _ in range(2):
            receive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert depth == 2 * 3
    assert drop == ["reentrant"] * 2


@pytest.mark.parametrize(
    ("patching", "waiting"),
    [
        ("import gevent.monkey as m; m.patch_all(); from gevent import spawn", "join"),
        ("import eventlet as m; m.monkey_patch(); from eventlet import spawn", "wait"),
    ],
)
def test_greenlets_are_told_apart_where_threads_are_patched_after_us(patching: str, waiting: str) -> None:
    """A hook that waits has others begin meanwhile: taken for one handler in the middle of itself, they are lost."""
    code = f"""
from sluice_agent.signals.context import Sink, guarded_receiver
{patching}
import time
lost = []
sink = Sink(emit=None, drop=lost.append, connection_id="", is_ignored=None, redact=None)
receive = guarded_receiver(sink, lambda: time.sleep(0.01))
for greenlet in [spawn(receive) for _ in range(10)]:
    greenlet.{waiting}()
print(len(lost))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "0"
