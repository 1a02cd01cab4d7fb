"""Sends control commands to workers: asks them what events leave out, and has them send events. In its own thread.

A worker is asked once, and again when it returns; all are asked when a connection begins, since events may have been
missed before. Their replies go through a queue to the thread that calls the tracker. So do acknowledgements of
`enable_events`: it is repeated to workers that send none.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any

from celery import Celery
from kombu import Connection

from sluice_agent.log import logger, warn_limited
from sluice_agent.monitor.broker.connection import skip_dead_sentinels
from sluice_agent.monitor.tracker.worker_store import TrackedWorker

INSPECT_COMMANDS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled")
ENABLE = "enable_events"
_ARGUMENTS = {"registered": {"taskinfoitems": ["acks_late"]}}
_REPLY_TIMEOUT = 1.0  # Celery's own default: a worker so busy that it takes longer is known by its events
_MAX_WORKERS = 200  # workers that one command is addressed to

_FIRST_PAUSE = 1.0  # seconds until `enable_events` is sent again to a worker; then twice that, and so on
_MAX_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class ControlReply:
    """One worker's reply to one command."""

    worker: str
    command: str
    reply: Any


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """All workers have been asked for the connection of this number; all replies are before this in the queue."""

    connection: int


@dataclass(frozen=True, slots=True)
class _Request:
    """Workers to inspect, and workers to send `enable_events` to; `all_workers`: all that there are."""

    inspect: frozenset[str] = frozenset()
    enable: frozenset[str] = frozenset()
    all_workers: bool = False

    def __or__(self, other: _Request) -> _Request:
        return _Request(self.inspect | other.inspect, self.enable | other.enable, self.all_workers or other.all_workers)


class ControlClient:
    """Puts replies into `replies`. Never raises; opens a connection for each request, and closes it after it.

    `enables_events` is whether workers are made to send events at all.
    """

    def __init__(self, app: Celery, *, enable_events: bool) -> None:
        self.replies: SimpleQueue[ControlReply | RoundFinished] = SimpleQueue()
        self._app = app
        self._control = app.control.__class__(app)
        self._control.mailbox.producer_pool = None  # else it publishes over connections that the app keeps open
        self.enables_events = enable_events
        self._requests: SimpleQueue[int | _Request | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="sluice-control", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop the thread; wait at most `timeout` seconds for a request that is under way."""
        self._stopped.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def inspect_all(self, connection: int) -> None:
        """Inspect all workers, as connection number `connection` has just begun."""
        self._requests.put(connection)

    def inspect(self, workers: Collection[str]) -> None:
        """Inspect these workers, which have just appeared."""
        self._requests.put(_Request(inspect=frozenset(workers)))

    def discover(self) -> None:
        """Inspect all workers, as there may be some that have not appeared: they send no heartbeats, and no events."""
        self._requests.put(_Request(all_workers=True))

    def enable(self, workers: Collection[str]) -> None:
        """Make these workers send events of their tasks. One that does puts a `ControlReply` to `ENABLE`."""
        self._requests.put(_Request(enable=frozenset(workers)))

    def _run(self) -> None:
        while (request := self._next_request()) is not None and not self._stopped.is_set():
            try:
                self._perform(request)
            except Exception as error:  # noqa: BLE001 - each transport raises other errors, and workers reply anything
                warn_limited(
                    "inspect", "A control command to the workers failed (%s: %s).", type(error).__name__, error
                )
            if isinstance(request, int):
                self.replies.put(RoundFinished(request))

    def _next_request(self) -> int | _Request | None:
        """Wait for the next request and return it, merged with those that name workers and came meanwhile."""
        request = self._requests.get()
        while isinstance(request, _Request) and not self._requests.empty():
            following = self._requests.get()
            request = request | following if isinstance(following, _Request) else following  # all: these included
        return request

    def _perform(self, request: int | _Request) -> None:
        with self._app.connection_for_write() as connection:
            skip_dead_sentinels(connection)
            connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=self._app.conf.broker_connection_timeout
            )
            if isinstance(request, int) or request.all_workers:
                if self.enables_events:
                    self._control.enable_events(connection=connection)  # at once, then to each until it acknowledges
                self._inspect(None, connection)
            else:
                self._enable_events(sorted(request.enable), connection)
                for chunk in _chunks(sorted(request.inspect)):
                    self._inspect(chunk, connection)

    def _enable_events(self, workers: list[str], connection: Connection) -> None:
        enabled = [worker for chunk in _chunks(workers) for worker in self._send(ENABLE, chunk, connection)]
        if enabled:
            text = "Enabled task events on %d workers, such as %s (--no-enable-events leaves them off)"
            logger.info(text, len(enabled), enabled[0])

    def _inspect(self, workers: list[str] | None, connection: Connection) -> None:
        """Send the first command, and the others to those that reply to it: no silent worker is waited for twice."""
        replied = sorted(self._send(INSPECT_COMMANDS[0], workers, connection))
        for chunk in _chunks(replied):
            for command in INSPECT_COMMANDS[1:]:
                if self._stopped.is_set():
                    return
                self._send(command, chunk, connection)

    def _send(self, command: str, workers: list[str] | None, connection: Connection) -> Collection[str]:
        """Send `command`, pass the replies on, and return the names of the workers that replied."""
        replies: list[dict[str, Any]] = self._control.broadcast(
            command,
            _ARGUMENTS.get(command),
            destination=workers,
            reply=True,
            timeout=_REPLY_TIMEOUT,
            limit=len(workers) if workers else None,
            connection=connection,
        )
        replied = set()
        for worker, reply in chain.from_iterable(
            by_worker.items() for by_worker in replies or () if isinstance(by_worker, dict)
        ):
            if not (isinstance(reply, dict) and reply.keys() == {"error"}):
                replied.add(worker)
                self.replies.put(ControlReply(worker, command, reply))
        return replied


def drain(replies: SimpleQueue[ControlReply | RoundFinished]) -> Iterator[ControlReply | RoundFinished]:
    """Yield the replies that have arrived so far."""
    try:
        while True:
            yield replies.get_nowait()
    except Empty:
        return


def _chunks(workers: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(workers), _MAX_WORKERS):
        yield workers[start : start + _MAX_WORKERS]


@dataclass(slots=True)
class _Backoff:
    """When `enable_events` is next sent to one worker process, unless it has acknowledged it."""

    pid: int
    due: float
    pause: float = _FIRST_PAUSE
    is_acknowledged: bool = False


class EnableBackoff:
    """Decides when `enable_events` is sent to each worker process: until it acknowledges, anew with each connection."""

    def __init__(self) -> None:
        self._backoffs: dict[str, _Backoff] = {}

    def due(self, online: Mapping[str, TrackedWorker], now: float) -> Collection[str]:
        """Return the names of the `online` workers to send it to at `now`, a time of the monotonic clock."""
        for name in self._backoffs.keys() - online.keys():
            del self._backoffs[name]
        return [name for name, worker in online.items() if self._is_due(name, worker.pid, now)]

    def acknowledged(self, worker: str) -> None:
        """Record that `worker` has acknowledged: it sends events of its tasks."""
        backoff = self._backoffs.get(worker)
        if backoff is not None:
            backoff.is_acknowledged = True

    def started(self, worker: str) -> None:
        """Forget the acknowledgement of an earlier process of this name: `worker` has just started."""
        self._backoffs.pop(worker, None)

    def forget(self) -> None:
        """Forget all acknowledgements, for a new connection: any worker may be another process by now."""
        self._backoffs.clear()

    def _is_due(self, name: str, pid: int, now: float) -> bool:
        backoff = self._backoffs.get(name)
        if backoff is None or backoff.pid != pid:
            backoff = self._backoffs[name] = _Backoff(pid, now)
        if backoff.is_acknowledged or now < backoff.due:
            return False
        backoff.due = now + backoff.pause
        backoff.pause = min(backoff.pause * 2, _MAX_PAUSE)
        return True
