"""A test double of the agent, for the tests of an app: the events that would be sent, as a list.

Nothing of the package imports this module, and it imports what a worker with a hook imports: no test framework.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from sluice_agent import _public, signals
from sluice_agent.before_send import BeforeSend, apply_hook
from sluice_agent.event import Event
from sluice_agent.lifecycle.redaction import Redact
from sluice_agent.lifecycle.sink import Sink
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
    before. A block inside another one has its own list and options, and the outer one receives nothing meanwhile; of
    blocks in several threads the newest receives everything.

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
    block = _Block(recorder, sink)
    try:
        _blocks.open(block, settings)
        yield recorder.events
    finally:
        _blocks.close(block)


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
            event = apply_hook(self._before_send, self.drop, event)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A block that captures: what the public functions call, and the fields that the sink has meanwhile."""

    recorder: _Recorder
    values: Sink


@dataclass(frozen=True, slots=True)
class _Outside:
    """What is as before when the last block ends."""

    agent: _public.PublicAgent | None
    instrumentation: signals.Instrumentation
    values: Sink
    """The fields of the sink."""
    end: Callable[[], None]
    """Disconnect an instrumentation that the blocks have made, as no agent was installed."""


class _Blocks:
    """The open blocks of all threads: the newest captures. They may end in another order than they have begun in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[_Block] = []
        self._outside: _Outside | None = None

    def open(self, block: _Block, settings: Settings) -> None:
        """Let `block` capture."""
        with self._lock:
            outside = self._outside = self._outside or _outside(settings)
            block.recorder.instrumentation = outside.instrumentation
            block.recorder.report_progress = outside.instrumentation.report_progress
            self._open.append(block)
            self._exchange(outside)

    def close(self, block: _Block) -> None:
        """Let the newest other block capture, or nothing more."""
        with self._lock:
            outside = self._outside
            if outside is None:  # `open` has raised
                return
            self._open = [other for other in self._open if other is not block]
            self._exchange(outside)
            if not self._open:
                self._outside = None
                outside.end()

    def _exchange(self, outside: _Outside) -> None:
        newest = self._open[-1] if self._open else None
        _public.exchange_agent(newest.recorder if newest is not None else outside.agent)
        values = newest.values if newest is not None else outside.values
        for field in fields(Sink):
            setattr(outside.instrumentation.sink, field.name, getattr(values, field.name))


_blocks = _Blocks()


def _outside(settings: Settings) -> _Outside:
    """Return what there is before the first block, with an instrumentation for the blocks if there is none."""
    agent = _public.installed()
    if agent is not None and agent.instrumentation is not None:
        return _Outside(agent, agent.instrumentation, replace(agent.instrumentation.sink), end=lambda: None)
    sink = signals.new_sink(connection_id=str(settings.connection), emit=lambda _: None, drop=lambda _: None)
    instrumentation = signals.connect(sink, message_header=settings.message_header, heartbeat_interval=0)
    return _Outside(agent, instrumentation, replace(sink), end=instrumentation.disconnect)
