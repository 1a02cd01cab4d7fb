"""Asynchronous exceptions that strike while Celery calls our receiver."""

from __future__ import annotations

from typing import Any

import pytest
from celery.utils.dispatch import Signal

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import Interruption
from sluice_agent.signals.signal_dispatch import replace_dispatcher

SINK = Sink(emit=lambda _: None, drop=lambda _: None, connection_id="")


class TooLongError(Exception):
    """A time limit of the host."""


@pytest.mark.parametrize("raises", [True, False])
def test_a_limit_that_struck_in_the_receiver_reaches_the_task(raises: bool) -> None:
    """`Signal.send` swallows it: a task would run on without its limit. After its end nothing is left to stop."""
    signal = Signal(name="prerun", providing_args=set())

    def receiver(**_: Any) -> Interruption:
        return Interruption(TooLongError())

    signal.connect(receiver, weak=False)
    replace_dispatcher(SINK, signal, receiver, raises=raises)
    if raises:
        with pytest.raises(TooLongError):
            signal.send(sender=None)
    else:
        signal.send(sender=None)


def test_the_result_of_another_receiver_is_no_interruption() -> None:
    """A user's receiver that fails must not fail the task: Celery logs it."""
    signal = Signal(name="prerun", providing_args=set())

    def fails(**_: Any) -> None:
        raise ValueError("boom")

    calls: list[Any] = []

    def receiver(**named: Any) -> None:
        calls.append(named["sender"])

    signal.connect(fails, weak=False)
    signal.connect(receiver, weak=False)
    replace_dispatcher(SINK, signal, receiver, raises=True)
    assert len(signal.send(sender="task")) == 2
    assert calls == ["task"]


def test_a_limit_that_strikes_in_the_dispatcher_loses_no_event() -> None:
    """The job would have no start, or no end."""
    signal = Signal(name="prerun", providing_args=set())
    calls: list[Any] = []

    def receiver(**named: Any) -> None:
        calls.append(named["sender"])

    def strike(**_: Any) -> None:
        raise SystemExit

    signal.connect(strike, weak=False)
    replace_dispatcher(SINK, signal, receiver, raises=True)
    with pytest.raises(SystemExit):
        signal.send(sender="task")
    assert calls == ["task"]
