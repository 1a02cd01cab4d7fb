"""The thread that samples the queues: at every interval, while elected, and again after any fault."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from celery import Celery
from celery.app.control import Control

from sluice_agent.lifecycle.encoding import queue_event
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import warn_limited
from sluice_agent.monitor.queues.election import RENEW_EVERY, NoElection
from sluice_agent.monitor.queues.factory import election_for, open_connection, reader_for
from sluice_agent.monitor.queues.readers import QueueDepth, QueueReader

ELECTION = "sluice-agent-queues-{}"  # the election's name on the broker: one for each Sluice connection
_INSPECT_EVERY = 60.0  # seconds between two inspections of all workers
_REPLY_TIMEOUT = 1.0  # seconds without a further reply, after which the replies are complete
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds at the most after the first fault, the second, and so on
_REFUSED_PAUSE = 900.0  # seconds until a worker tries again to use a permission that it was refused


@dataclass(frozen=True, slots=True)
class Consumers:
    """How many of the known workers consume from each queue; `is_complete` is whether all workers are known."""

    by_queue: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = False

    def count(self, queue: str) -> int | None:
        """Return their number; None where it is not known. A number of 0 is known only where all workers are known."""
        return self.by_queue.get(queue, 0 if self.is_complete else None)


class QueueSampler:
    """Emits the depth of the queues every `interval` seconds, while this agent is the elected one.

    `names` returns the queues to sample; those that workers consume from, that are bound to the app's exchanges, or
    that hold jobs for quorum queues are discovered. `consumers` counts the workers of each queue, where the broker
    can't; without it, all workers are inspected once a minute. `owner` is the leader's name on the broker.
    `management_url` is that of RabbitMQ's management API. Where the broker can't hold an election, this agent samples
    nevertheless, unless it `must_be_elected`. `suspected` returns queues that are read also while another agent leads:
    see `ready`. Raises nothing; faults are logged once a minute.
    """

    def __init__(
        self,
        app: Celery,
        sink: Sink,
        *,
        interval: float,
        names: Callable[[], Collection[str]],
        owner: str = "",
        management_url: str | None = None,
        consumers: Callable[[], Consumers] | None = None,
        suspected: Callable[[], Collection[str]] = tuple,
        must_be_elected: bool = False,
    ) -> None:
        self._app = app
        self._sink = sink
        self._interval = interval
        self._names = names
        self._owner = owner or f"{socket.gethostname()}/{os.getpid()}"
        self._management_url = management_url
        self._consumers = consumers
        self._suspected = suspected
        self._must_be_elected = must_be_elected
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._inspected_consumers = Consumers()
        self._inspected_at = 0.0
        self.depths: Mapping[str, QueueDepth] = {}
        """The latest sample, by queue; empty while another agent leads."""
        self.ready: tuple[float, Mapping[str, int]] = 0.0, {}
        """When the suspected queues were read last, by the monotonic clock, and how many jobs waited in each."""

    def start(self) -> None:
        """Start the thread. With an interval of 0 nothing is sampled."""
        if self._interval and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluice-queues", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop, and let another agent lead; wait for `timeout` seconds at the most."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            refused = False
            try:
                with open_connection(self._app, self._failures) as connection:
                    refused = not self._sample_on(connection)
            except Exception as error:  # noqa: BLE001 - brokers fail in many ways, and the next attempt may succeed
                text = "The queues' depths can't be read from the broker (%s: %s). The sampler tries again."
                warn_limited("queues", text, type(error).__name__, error)
            self._failures += 1
            longest = _REFUSED_PAUSE if refused else _PAUSES[min(self._failures, len(_PAUSES)) - 1]
            self._stopped.wait(random.uniform(longest / 2, longest))  # noqa: S311 - or all agents would return at one moment

    def _sample_on(self, connection: Any) -> bool:
        """Sample until the stop, and return True; False where this agent may not sample."""
        reader = reader_for(self._app, connection, self._management_url)
        election = election_for(connection, ELECTION.format(self._sink.connection_id), self._owner)
        if election is None:
            if self._must_be_elected:
                warn_limited("unelected", "This broker can't hold an election, so this worker samples no queues.")
                return False
            election = NoElection()
        due = time.monotonic()
        try:
            while not self._stopped.is_set():
                leads = election.leads()
                self._failures = 0
                if not leads:
                    self.depths = {}
                elif time.monotonic() >= due:
                    self._sample(reader, connection)
                    missed = (time.monotonic() - due) // self._interval
                    due += (missed + 1) * self._interval
                if suspected := self._suspected():
                    read_at = time.monotonic()
                    self.ready = read_at, {name: depth.ready for name, depth in reader.depths(suspected).items()}
                pause = min(RENEW_EVERY, due - time.monotonic()) if leads else RENEW_EVERY
                election.wait(max(pause, 0.0), self._stopped)
            with suppress(Exception):  # the end of a lost connection resigns as well
                election.resign()
            return True
        finally:
            self.depths = {}

    def _sample(self, reader: QueueReader, connection: Any) -> None:
        consumers = self._known_consumers(connection)
        requested = {*self._names(), *consumers.by_queue}
        current = reader.depths(requested, consumers.by_queue)
        sampled_at = time.time()
        depths: dict[str, QueueDepth] = {}
        for name, depth in current.items():
            if name not in requested and not depth.ready and name not in self.depths:
                continue  # an empty queue is worth an event only where it was not empty before
            if depth.consumers is None:
                depth = replace(depth, consumers=consumers.count(name))  # noqa: PLW2901 - the same, and more
            if name in requested or depth.ready:
                depths[name] = depth
            self._emit_depth(name, depth, sampled_at)
        self.depths = depths

    def _emit_depth(self, name: str, depth: QueueDepth, sampled_at: float) -> None:
        try:
            self._sink.emit(queue_event(self._sink.connection_id, name, depth.ready, depth.consumers, sampled_at))
        except Exception as error:  # noqa: BLE001 - one queue's odd name must not hide the others
            self._sink.drop("internal_error")
            text = "Could not record a queue's depth (%s: %s): counted as dropped."
            warn_limited("snapshot", text, type(error).__name__, error)

    def _known_consumers(self, connection: Any) -> Consumers:
        if self._consumers is not None:
            return self._consumers()
        if time.monotonic() - self._inspected_at >= _INSPECT_EVERY or not self._inspected_at:
            self._inspected_at = time.monotonic()
            self._inspected_consumers = inspect_consumers(self._app, connection)
        return self._inspected_consumers


def inspect_consumers(app: Celery, connection: Any) -> Consumers:
    """Count consumers by the workers' replies to `active_queues`; without a reply, none is known.

    Uses nothing of the app's that another thread may hold: neither its pools nor its mailbox.
    """
    if not app.conf.worker_enable_remote_control or "fanout" not in connection.transport.implements.exchange_type:
        return Consumers()
    with connection.clone() as clone:  # kombu's Redis transport never forgets a channel of a connection that lasts
        mailbox = Control(app).mailbox(clone)
        mailbox.producer_pool = None  # else the app's pool is used, and opens a connection
        replies = mailbox.multi_call("active_queues", timeout=_REPLY_TIMEOUT, channel=clone.default_channel)
    return count_consumers(replies or ())


def count_consumers(replies: Iterable[Any]) -> Consumers:
    """Count the consumers in the workers' replies, dicts with one worker's name as their key."""
    values = [queues for reply in replies if isinstance(reply, dict) for queues in reply.values()]
    lists = [queues for queues in values if isinstance(queues, list)]
    names = [queue.get("name") for queues in lists for queue in queues if isinstance(queue, dict)]
    return Consumers(Counter(name for name in names if isinstance(name, str)), is_complete=bool(lists))
