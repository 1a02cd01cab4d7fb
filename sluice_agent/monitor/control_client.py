"""Asks workers what events do not say, and to send events at all: in a thread of its own, never in a loop.

A worker is asked once, and again when it returns; all of them are asked when a connection begins, since events may have
been missed before. What they answer goes back to whoever calls the observer, by a queue. So does what they say when
they are told to send events: those that say nothing are told again.
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

from sluice_agent.log import complain, logger
from sluice_agent.monitor.connection import skip_dead_sentinels
from sluice_agent.monitor.tracked_worker import TrackedWorker

QUESTIONS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled")
ENABLE = "enable_events"
_ARGUMENTS = {"registered": {"taskinfoitems": ["acks_late"]}}
_ANSWER_SECONDS = 1.0  # Celery's own default: a worker that is so busy that it takes longer is known by its events
_MOST_AT_ONCE = 200  # workers in one question


@dataclass(frozen=True, slots=True)
class ControlReply:
    """What one worker answered."""

    worker: str
    what: str
    reply: Any


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """Everybody has been asked for the connection of this number; all answers are before this in the queue."""

    connection: int


@dataclass(frozen=True, slots=True)
class _Names:
    """Workers that are to be asked, and that are to be told to send events; `everyone`: all that there are."""

    ask: frozenset[str] = frozenset()
    enable: frozenset[str] = frozenset()
    everyone: bool = False

    def __or__(self, other: _Names) -> _Names:
        return _Names(self.ask | other.ask, self.enable | other.enable, self.everyone or other.everyone)


class ControlClient:
    """Its answers wait in `answers`. Never raises; each round has a connection of its own, which ends with it.

    `enables_events` says whether workers are told to send events at all.
    """

    def __init__(self, app: Celery, *, enable_events: bool) -> None:
        self.answers: SimpleQueue[ControlReply | RoundFinished] = SimpleQueue()
        self._app = app
        self._control = app.control.__class__(app)
        self._control.mailbox.producer_pool = None  # else it publishes over connections that the app keeps open
        self.enables_events = enable_events
        self._requests: SimpleQueue[int | _Names | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sluice-inspector", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End; a round that is on its way is not waited for longer than `timeout` seconds."""
        self._stopped.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def ask_all(self, connection: int) -> None:
        """Ask everybody, as connection number `connection` has just begun."""
        self._requests.put(connection)

    def ask(self, workers: Collection[str]) -> None:
        """Ask these, which have just appeared."""
        self._requests.put(_Names(ask=frozenset(workers)))

    def discover(self) -> None:
        """Ask everybody, as there may be workers that have not appeared: they send no heartbeats, and no events."""
        self._requests.put(_Names(everyone=True))

    def enable(self, workers: Collection[str]) -> None:
        """Tell these to send events of their tasks. The answer of one that does is an `ControlReply` to `ENABLE`."""
        self._requests.put(_Names(enable=frozenset(workers)))

    def _run(self) -> None:
        while (request := self._next()) is not None and not self._stopped.is_set():
            try:
                self._round(request)
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own, and workers answer anything
                complain("inspect", "Workers can't be asked (%s: %s).", type(error).__name__, error)
            if isinstance(request, int):
                self.answers.put(RoundFinished(request))

    def _next(self) -> int | _Names | None:
        """What is asked for, waiting for it; all workers that were named meanwhile are one request."""
        request = self._requests.get()
        while isinstance(request, _Names) and not self._requests.empty():
            following = self._requests.get()
            request = request | following if isinstance(following, _Names) else following  # everybody: these too
        return request

    def _round(self, request: int | _Names) -> None:
        with self._app.connection_for_write() as connection:
            skip_dead_sentinels(connection)
            connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=self._app.conf.broker_connection_timeout
            )
            if isinstance(request, int) or request.everyone:
                if self.enables_events:
                    self._control.enable_events(connection=connection)  # at once; who has heard it is seen later
                self._ask(None, connection)
            else:
                self._enable_events(sorted(request.enable), connection)
                for some in _chunks(sorted(request.ask)):
                    self._ask(some, connection)

    def _enable_events(self, workers: list[str], connection: Connection) -> None:
        enabled = [worker for some in _chunks(workers) for worker in self._put(ENABLE, some, connection)]
        if enabled:
            what = "Told to send events of their tasks: %d workers, such as %s (--no-enable-events: they are not)"
            logger.info(what, len(enabled), enabled[0])

    def _ask(self, workers: list[str] | None, connection: Connection) -> None:
        """Put the first question, and the others to those that answer it: nobody is waited for twice."""
        answered = sorted(self._put(QUESTIONS[0], workers, connection))
        for some in _chunks(answered):
            for what in QUESTIONS[1:]:
                if self._stopped.is_set():
                    return
                self._put(what, some, connection)

    def _put(self, what: str, workers: list[str] | None, connection: Connection) -> Collection[str]:
        """Ask, and pass on what was answered; who did."""
        answers: list[dict[str, Any]] = self._control.broadcast(
            what,
            _ARGUMENTS.get(what),
            destination=workers,
            reply=True,
            timeout=_ANSWER_SECONDS,
            limit=len(workers) if workers else None,
            connection=connection,
        )
        answered = set()
        for worker, reply in chain.from_iterable(
            answer.items() for answer in answers or () if isinstance(answer, dict)
        ):
            if not (isinstance(reply, dict) and reply.keys() == {"error"}):
                answered.add(worker)
                self.answers.put(ControlReply(worker, what, reply))
        return answered


def _chunks(workers: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(workers), _MOST_AT_ONCE):
        yield workers[first : first + _MOST_AT_ONCE]


def drain(answers: SimpleQueue[ControlReply | RoundFinished]) -> Iterator[ControlReply | RoundFinished]:
    """What has come so far."""
    try:
        while True:
            yield answers.get_nowait()
    except Empty:
        return


_FIRST_PAUSE = 1.0  # seconds until a worker that has not answered is told again; then twice that, and so on
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _Attempt:
    pid: int
    due: float
    pause: float = _FIRST_PAUSE
    is_acknowledged: bool = False


class EnableBackoff:
    """Each worker process is told, anew with each connection of ours, until it has acknowledged it."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}

    def due(self, online: Mapping[str, TrackedWorker], now: float) -> Collection[str]:
        """The names of those to tell, of the workers that are `online` at `now`, by the monotonic clock."""
        for name in self._attempts.keys() - online.keys():
            del self._attempts[name]
        return [name for name, view in online.items() if self._is_due(name, view.pid, now)]

    def acknowledged(self, worker: str) -> None:
        """It has said that it sends events of its tasks."""
        attempt = self._attempts.get(worker)
        if attempt is not None:
            attempt.is_acknowledged = True

    def started(self, worker: str) -> None:
        """It says that it has just started: what another process of its name said is of no use."""
        self._attempts.pop(worker, None)

    def forget(self) -> None:
        """A new connection: any of them may be another process by now."""
        self._attempts.clear()

    def _is_due(self, name: str, pid: int, now: float) -> bool:
        attempt = self._attempts.get(name)
        if attempt is None or attempt.pid != pid:
            attempt = self._attempts[name] = _Attempt(pid, now)
        if attempt.is_acknowledged or now < attempt.due:
            return False
        attempt.due = now + attempt.pause
        attempt.pause = min(attempt.pause * 2, _LONGEST_PAUSE)
        return True
