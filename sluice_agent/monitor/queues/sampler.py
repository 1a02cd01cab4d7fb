"""The thread that looks at the queues: elected, at every interval, and back after every fault."""

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

from sluice_agent.encoding import queue_event
from sluice_agent.log import complain
from sluice_agent.monitor.queues.election import LOOK_EVERY, NoElection
from sluice_agent.monitor.queues.factory import election_for, opened, reader_for
from sluice_agent.monitor.queues.readers import QueueDepth, QueueReader

ELECTION = "sluice-agent-queues-{}"  # what the election is called on the broker: one for each Sluice connection
_ASK_EVERY = 60.0  # seconds between two questions to all workers
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds at the most after a fault, another, and so on
_REFUSED_PAUSE = 900.0  # seconds until a worker asks again for a right that it was refused


class QueueSampler:
    """Tells the depth of the queues every `interval` seconds, if this agent is the one that was elected.

    `names` says which queues; those that workers take from, that are bound to the app's exchanges, or that hold jobs
    for quorum queues are found as well. `consumers` says how many workers take from each, where the broker can't;
    without it, all workers are asked once a minute. `owner` is what the broker shows as the leader. `management_url` is
    that of RabbitMQ's management API. Where the broker can't hold an election, this agent samples all the same unless
    it `must_be_elected`. `suspected` names queues that are looked at whoever
    leads: see `ready`. Raises nothing; what goes wrong is logged once a minute.
    """

    def __init__(
        self,
        app: Celery,
        *,
        connection_id: str,
        emit: Callable[[bytes], None],
        drop: Callable[[str], None],
        interval: float,
        names: Callable[[], Collection[str]],
        owner: str = "",
        management_url: str | None = None,
        consumers: Callable[[], Consumers] | None = None,
        suspected: Callable[[], Collection[str]] = tuple,
        must_be_elected: bool = False,
    ) -> None:
        self._app = app
        self._connection_id = connection_id
        self._emit = emit
        self._drop = drop
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
        self._taken_from = Consumers()
        self._asked = 0.0
        self.depths: Mapping[str, QueueDepth] = {}
        """The latest sample, by queue; empty while another agent leads."""
        self.ready: tuple[float, Mapping[str, int]] = 0.0, {}
        """When the suspected queues were looked at last, by the monotonic clock, and how many jobs waited in each."""

    def start(self) -> None:
        """Begin. An interval of 0 means that nothing is to be sampled."""
        if self._interval and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluice-queues", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """End, and let another agent lead; waits for `timeout` seconds at the most."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            refused = False
            try:
                with opened(self._app, self._failures) as connection:
                    refused = not self._sample_on(connection)
            except Exception as error:  # noqa: BLE001 - brokers fail in many ways, and the next try may do better
                what = "The queues' depths can't be read from the broker, and are tried again (%s: %s)."
                complain("queues", what, type(error).__name__, error)
            self._failures += 1
            longest = _REFUSED_PAUSE if refused else _PAUSES[min(self._failures, len(_PAUSES)) - 1]
            self._stopped.wait(random.uniform(longest / 2, longest))  # noqa: S311 - so that not all come back as one

    def _sample_on(self, connection: Any) -> bool:
        """Sample until told to end; False where this agent may not."""
        reader = reader_for(self._app, connection, self._management_url)
        election = election_for(connection, ELECTION.format(self._connection_id), self._owner)
        if election is None:
            if self._must_be_elected:
                complain("unelected", "No agent can be elected on this broker, so this worker samples no queues.")
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
                    began = time.monotonic()
                    self.ready = began, {name: depth.ready for name, depth in reader.depths(suspected).items()}
                pause = min(LOOK_EVERY, due - time.monotonic()) if leads else LOOK_EVERY
                election.wait(max(pause, 0.0), self._stopped)
            with suppress(Exception):  # a connection that is lost by now has resigned for us
                election.resign()
            return True
        finally:
            self.depths = {}

    def _sample(self, reader: QueueReader, connection: Any) -> None:
        taken_from = self._workers_by_queue(connection)
        asked_for = {*self._names(), *taken_from.by_queue}
        found = reader.depths(asked_for, taken_from.by_queue)
        at = time.time()
        depths: dict[str, QueueDepth] = {}
        for name, depth in found.items():
            if name not in asked_for and not depth.ready and name not in self.depths:
                continue  # that it is empty is news only where it was not
            if depth.consumers is None:
                depth = replace(depth, consumers=taken_from.of(name))  # noqa: PLW2901 - the same, and more
            if name in asked_for or depth.ready:
                depths[name] = depth
            self._report(name, depth, at)
        self.depths = depths

    def _report(self, name: str, depth: QueueDepth, at: float) -> None:
        try:
            self._emit(queue_event(self._connection_id, name, depth.ready, depth.consumers, at))
        except Exception as error:  # noqa: BLE001 - one queue's strange name must not hide the others
            self._drop("internal_error")
            complain("snapshot", "A queue can't be told (%s: %s).", type(error).__name__, error)

    def _workers_by_queue(self, connection: Any) -> Consumers:
        if self._consumers is not None:
            return self._consumers()
        if time.monotonic() - self._asked >= _ASK_EVERY or not self._asked:
            self._asked = time.monotonic()
            self._taken_from = consumers(self._app, connection)
        return self._taken_from


_PATIENCE = 1.0  # seconds without an answer, after which the ones that have come are all


@dataclass(frozen=True, slots=True)
class Consumers:
    """How many workers take from each queue, of those that are known; `are_all` says whether nobody is missing."""

    by_queue: Mapping[str, int] = field(default_factory=dict)
    are_all: bool = False

    def of(self, queue: str) -> int | None:
        """Their number; None where it is not known. That nobody takes from a queue is known only where all are."""
        return self.by_queue.get(queue, 0 if self.are_all else None)


def consumers(app: Celery, connection: Any) -> Consumers:
    """Who takes from which queue, from the workers' answers to `active_queues`; where none answered, nobody knows.

    Uses nothing of the app's that another thread may hold: neither its pools nor its mailbox.
    """
    if not app.conf.worker_enable_remote_control or "fanout" not in connection.transport.implements.exchange_type:
        return Consumers()
    with connection.clone() as own:  # kombu's Redis transport never forgets a channel of a connection that lasts
        mailbox = Control(app).mailbox(own)
        mailbox.producer_pool = None  # else the app's own is asked for, and a connection of it opened
        replies = mailbox.multi_call("active_queues", timeout=_PATIENCE, channel=own.default_channel)
    return counted(replies or ())


def counted(replies: Iterable[Any]) -> Consumers:
    """The consumers in the workers' answers, of which each names one worker."""
    answered = [queues for reply in replies if isinstance(reply, dict) for queues in reply.values()]
    answers = [queues for queues in answered if isinstance(queues, list)]
    names = [queue.get("name") for queues in answers for queue in queues if isinstance(queue, dict)]
    return Consumers(Counter(name for name in names if isinstance(name, str)), are_all=bool(answers))
