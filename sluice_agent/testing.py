"""A test double of the agent, for the tests of an app: the events that would be sent, as a list.

Nothing of the package imports this module, and it imports what a worker imports: no test framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from sluice_agent import _public, signals
from sluice_agent.agent import BeforeSend, apply_hook
from sluice_agent.lifecycle.redaction import Redact
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import Event
from sluice_agent.settings import Settings
from sluice_agent.stats import Counts, Stats

__all__ = ["captured_events"]


@contextmanager
def captured_events(
    settings: Settings | None = None, *, before_send: BeforeSend | None = None, redact: Redact | None = None
) -> Iterator[list[Event]]:
    """Capture the events that the agent would send from this process, in place of sending them.

    ::

        with captured_events() as events:
            add.delay(1, 2)
        assert [event.job.state for event in events if event.job] == ["queued"]

    The list grows while the block runs, from any thread: with `task_always_eager`, or a worker in a thread
    (``celery.contrib.pytest``), it holds a job's whole walk. Nothing is written to a journal and nothing is shipped,
    whether the agent is installed, is off for lack of a key, or is not installed. `install` does nothing inside the
    block, `progress` reports to the list, `stats` counts the list and what the hook dropped; at the end all is as
    before. A block inside another one has its own list and options, and the outer one receives nothing meanwhile.

    The options are those of `install`; by default those that it was called with, else the environment's. No key is
    needed. There are no heartbeats, unless a worker that has the agent runs already. Raises `ConfigError` if a setting
    is malformed.

    Jobs are published as ever: without a broker set ``broker_url`` to ``memory://``.
    """
    installed = _public.installed_options()
    settings = settings or (installed.settings if installed else Settings())
    before_send = before_send or (installed.before_send if installed else None)
    redact = redact or (installed.redact if installed else None)
    recorder = _Recorder(before_send)
    sink = signals.new_sink(
        connection_id=str(settings.connection),
        emit=recorder.capture,
        drop=recorder.drop,
        ignore_tasks=settings.ignore_tasks,
        capture_args=settings.capture_args,
        redact=redact,
    )
    former = _public.exchange_agent(recorder)
    try:
        with _instrumented(former, settings) as instrumentation, _exchanged(instrumentation.sink, sink):
            recorder.instrumentation = instrumentation
            recorder.report_progress = instrumentation.report_progress
            yield recorder.events
    finally:
        _public.exchange_agent(former)


class _Recorder:
    """The stand-in for the agent: it keeps its events in a list."""

    def __init__(self, before_send: BeforeSend | None) -> None:
        self.events: list[Event] = []
        self.report_progress: Callable[[float], None] = lambda _: None
        self.instrumentation: signals.Instrumentation | None = None
        self._before_send = before_send
        self._dropped: Counter[str] = Counter()

    def capture(self, event: bytes) -> None:
        """Append `event`, a line of JSON, to the list, unless the hook drops it."""
        if self._before_send is not None:
            event = apply_hook(self._before_send, event, self.drop)
        if event:
            self.events.append(Event.model_validate_json(event))

    def drop(self, reason: str) -> None:
        """Count an event that would not be sent."""
        self._dropped[reason] += 1

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - as `Agent.flush`
        """Return True: nothing is pending anywhere else."""
        return True

    def shutdown(self, timeout: float) -> None:
        """Do nothing: there is nothing to deliver."""

    def stats(self) -> Stats:
        """Return the counts of the list, whose events are pending, and of the drops."""
        return Counts(dropped=self._dropped.copy(), read=self._dropped.total()).stats(pending=len(self.events))


@contextmanager
def _instrumented(former: _public.PublicAgent | None, settings: Settings) -> Iterator[signals.Instrumentation]:
    """Yield the instrumentation of `former`; if there is none, one for the length of the block."""
    if former is not None and former.instrumentation is not None:
        yield former.instrumentation
        return
    sink = signals.new_sink(connection_id=str(settings.connection), emit=lambda _: None, drop=lambda _: None)
    instrumentation = signals.connect(sink, message_header=settings.message_header, heartbeat_interval=0)
    try:
        yield instrumentation
    finally:
        instrumentation.disconnect()


@contextmanager
def _exchanged(sink: Sink, values: Sink) -> Iterator[None]:
    """Give `sink` the fields of `values` for the length of the block."""
    former = replace(sink)
    _assign(sink, values)
    try:
        yield
    finally:
        _assign(sink, former)


def _assign(sink: Sink, values: Sink) -> None:
    for field in fields(Sink):
        setattr(sink, field.name, getattr(values, field.name))
