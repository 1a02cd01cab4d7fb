"""The signals of plain jobs go past Celery's dispatcher while nobody else receives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from celery import signals
from celery.app.task import Context
from celery.utils.dispatch import Signal

from sluice_agent.lifecycle.encoding import PlainJobEvents
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals import connect
from sluice_agent.signals.agent_header import HEAD, MEMBERS, RUN
from sluice_agent.signals.current_runs import begin_execution, end_execution, run_of
from sluice_agent.signals.guard import guarded_receiver, plain_receiver
from sluice_agent.signals.signal_dispatch import replace_dispatcher

ID = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
SINK = Sink(emit=lambda _: None, drop=lambda _: None, connection_id="")


class TooLongError(Exception):
    """A time limit of the host."""

    def __init__(self) -> None:
        super().__init__()


class Dispatched:
    """A signal with our receiver, and the calls of both our handlers."""

    def __init__(
        self, handle_plain: Callable[[Mapping[str, Any]], bool], *, raises: bool = True, receives_plain: bool = False
    ) -> None:
        self.signal = Signal(name="prerun", providing_args=set())
        self.ordinary: list[Any] = []
        self.dropped: list[str] = []
        sink = Sink(emit=lambda _: None, drop=self.dropped.append, connection_id="")
        ordinary = guarded_receiver(sink, self._handle)
        receiver = plain_receiver(sink, ordinary, handle_plain) if receives_plain else ordinary
        self.signal.connect(receiver, weak=False)
        self.restore = replace_dispatcher(
            sink, self.signal, receiver, ordinary=ordinary, raises=raises, handle_plain=handle_plain
        )

    def _handle(self, *, sender: Any, **_: Any) -> None:
        self.ordinary.append(sender)


def test_a_plain_job_is_handled_once() -> None:
    """Its events would be reported twice."""
    named: list[Mapping[str, Any]] = []
    dispatched = Dispatched(lambda arguments: not named.append(arguments))
    assert dispatched.signal.send(sender="task", task_id="job") == []
    assert (named, dispatched.ordinary) == ([{"task_id": "job"}], [])


def test_what_is_not_plain_takes_the_ordinary_way() -> None:
    """A retry would not be reported, or would be tried twice as a plain job: that costs more than it saves others."""
    tried: list[str] = []
    dispatched = Dispatched(lambda _: bool(tried.append("plain")), receives_plain=True)
    [(_, response)] = dispatched.signal.send(sender="task")
    assert (response, tried, dispatched.ordinary) == (None, ["plain"], ["task"])


def test_another_receiver_gets_the_signal_too() -> None:
    """Another library, such as Django's integration, would not see a single task; nor would we, once it has gone."""
    plain, others = [], []

    def other(sender: Any, **_: Any) -> None:
        others.append(sender)

    dispatched = Dispatched(lambda _: not plain.append("plain"))
    dispatched.signal.connect(other, weak=False)
    dispatched.signal.send(sender="task")
    assert (plain, dispatched.ordinary, others) == ([], ["task"], ["task"])
    dispatched.signal.disconnect(other)
    dispatched.signal.send(sender="task")
    assert (plain, dispatched.ordinary, others) == (["plain"], ["task"], ["task"])


def test_a_receiver_that_is_gone_costs_no_job_its_events() -> None:
    """Celery keeps the dead reference of a weak receiver until the next call: nothing would report a job then."""
    plain: list[str] = []

    class Other:
        def receive(self, **_: Any) -> None: ...

    other = Other()
    dispatched = Dispatched(lambda _: not plain.append("plain"))
    dispatched.signal.connect(other.receive, weak=True)
    del other
    for _ in range(2):
        dispatched.signal.send(sender="task")
    assert len(plain) + len(dispatched.ordinary) == 2
    assert plain, "once the reference is removed, our receiver is alone again"


def test_a_receiver_that_alone_is_connected_is_not_taken_for_ours() -> None:
    """It would never be called after our own is disconnected."""
    plain, others = [], []

    def other(sender: Any, **_: Any) -> None:
        others.append(sender)

    dispatched = Dispatched(lambda _: not plain.append("plain"))
    dispatched.signal.receivers.clear()
    dispatched.signal.connect(other, weak=False)
    dispatched.signal.send(sender="task")
    assert (plain, others) == ([], ["task"])


def test_a_fault_of_ours_is_counted_and_reaches_nobody() -> None:
    """A user's task would fail because of a bug of the agent."""

    def fails(_: Mapping[str, Any]) -> bool:
        raise KeyError("a bug")

    dispatched = Dispatched(fails)
    dispatched.signal.send(sender="task")
    assert dispatched.dropped == ["internal_error"]


@pytest.mark.parametrize("raises", [True, False])
def test_a_limit_that_strikes_loses_no_event_and_reaches_the_task(raises: bool) -> None:
    """A task would run on past its limit, or look as if it never began."""
    exec_in_package: dict[str, Any] = {"__name__": "sluice_agent.any", "Limit": TooLongError}
    exec("def handle_plain(_): raise Limit()", exec_in_package)
    dispatched = Dispatched(exec_in_package["handle_plain"], raises=raises)
    if raises:
        with pytest.raises(TooLongError):
            dispatched.signal.send(sender="task")
    else:
        dispatched.signal.send(sender="task")
    assert (dispatched.ordinary, dispatched.dropped) == (["task"], [])


def test_the_dispatcher_is_put_back() -> None:
    """A test that captures events would change all tests after it."""
    plain: list[str] = []
    dispatched = Dispatched(lambda _: not plain.append("plain"))
    dispatched.restore()
    dispatched.signal.send(sender="task")
    assert (plain, dispatched.ordinary) == ([], ["task"])


@pytest.mark.parametrize("is_direct", [True, False])
def test_direct_dispatch_can_be_switched_off(is_direct: bool) -> None:
    """A program that replaces Celery's dispatcher too would have no way out."""
    before = signals.task_received.send
    instrumentation = connect(SINK, heartbeat_interval=0, direct_dispatch=is_direct)
    try:
        assert (signals.task_received.send != before) is is_direct
    finally:
        instrumentation.disconnect()
    assert signals.task_received.send == before


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_plain_job_takes_its_way_beside_other_receivers(is_direct: bool) -> None:
    """A user of Django, whose integration listens as well, would pay twice for each job."""

    def receive(**_: Any) -> None: ...

    instrumentation = connect(SINK, heartbeat_interval=0, direct_dispatch=is_direct)
    signals.task_prerun.connect(receive, weak=False)
    try:
        context = Context({"id": ID})
        begin_execution(ID, {RUN: "w@h/1/a.0", HEAD: "", MEMBERS: ""})
        signals.task_prerun.send(sender=None, task_id=ID, task=None, args=(), kwargs={})
        begun = run_of(context)
    finally:
        end_execution()
        signals.task_prerun.disconnect(receive)
        instrumentation.disconnect()
    assert begun is not None
    assert type(begun.events) is PlainJobEvents
