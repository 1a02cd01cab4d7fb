"""The carrier by a broker: a message for each claim.

A thread of its own asks the workers who takes them, as their answers take a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Lock, Thread

from sluice_agent.attempt_message import TASK, AttemptMessage
from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.carrier import CarrierAwayError
from sluice_agent.jobs.engine.claim import Claim
from sluice_agent.jobs.engine.options import DEFAULT_SLOTS, EngineOptions
from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.actions.broker import (
    Broker,
    BrokerAwayError,
    RejectedError,
    Takers,
    TaskMessage,
    UnconfirmedError,
)
from sluice_agent.server.timestamps import timestamp_of

_SECOND = 1_000_000  # microseconds
_HIGHEST = 9  # priority of a message: those of runs go to 10
_LOOKS = 3  # without an answer, after which no worker takes messages: a worker may be busy
_CLOSE_SECONDS = 5.0


class MessageCarrier:
    """Sends messages over `connection`, and knows who takes them from the queue of `options`."""

    outlives_process = True

    def __init__(self, connection: BrokerConnection, options: EngineOptions) -> None:
        self._connection = connection
        self._broker = connection.broker
        self._queue = options.queue
        self._watch = _Watch(connection.broker, options)

    @property
    def slots(self) -> int:
        """How many attempts the workers execute at a time, as far as is known; 0 if there is none."""
        return self._watch.slots

    def send(self, claims: Sequence[Claim]) -> list[str]:
        """Send messages until the broker takes no more of them, and return the runs of those that it has."""
        confirmed: list[str] = []
        try:
            sender = self._connection.sender()
            for claim in claims:
                sender.send(self._message(claim), claim.run_id, timestamp_of(claim.created_at))
                confirmed.append(claim.run_id)
        except (BrokerAwayError, UnconfirmedError, RejectedError) as error:
            self._connection.close()
            if not confirmed:
                raise CarrierAwayError(str(error)) from error
            warn_limited("jobs-broker", "Runs wait for the broker: %s", error)
        return confirmed

    def watch(self, *, is_executing: bool) -> None:
        """Ask who takes messages, from time to time."""
        self._watch.want(is_executing=is_executing)
        self._connection.close_if_idle()

    def is_empty(self) -> bool:
        """Return whether no message waited when the broker was last asked."""
        return self._watch.waiting == 0

    def start(self) -> None:
        """Do nothing: a worker delivers its own outcomes."""

    def close(self) -> None:
        """End the thread."""
        self._watch.close()

    def _message(self, claim: Claim) -> TaskMessage:
        return TaskMessage(
            TASK,
            (),
            {},
            self._queue,
            priority=self._broker.queue_priority(min(claim.priority, _HIGHEST)),
            ignore_result=True,
            shadow=claim.slug,
            headers=AttemptMessage(claim.attempt, claim.ticket, claim.until / _SECOND).headers(),
            retries=claim.retries,
        )


class _Watch:
    """The thread that asks. Until it has an answer, workers are taken for granted: the first run does not wait."""

    def __init__(self, broker: Broker, options: EngineOptions) -> None:
        self._broker = broker
        self._options = options
        self._lock = Lock()
        self._takers: Takers | None = None
        self._without = 0  # looks in a row without a worker
        self._wanted = Event()
        self._stopped = Event()
        self._thread: Thread | None = None

    @property
    def slots(self) -> int:
        with self._lock:
            if self._options.slots is not None:
                return self._options.slots
            if self._without >= _LOOKS:
                return 0
            return (self._takers.slots if self._takers is not None else 0) or DEFAULT_SLOTS

    @property
    def waiting(self) -> int | None:
        with self._lock:
            return None if self._takers is None else self._takers.waiting

    def want(self, *, is_executing: bool) -> None:
        with self._lock:
            if is_executing:
                self._without = 0
        self._wanted.set()
        if self._thread is None:
            self._thread = Thread(target=self._run, name="jobs workers", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped.is_set():
                return
            try:
                self._note(self._broker.takers(self._options.queue))
            except BrokerAwayError as error:
                warn_limited("jobs-broker", "Runs wait for the broker: %s", error)
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                log_failure(error, "The workers of the jobs API could not be asked")
            self._stopped.wait(self._options.look if self.slots else self._options.search)

    def _note(self, takers: Takers) -> None:
        with self._lock:
            if takers.slots:
                self._without = 0
                self._takers = takers
            else:
                self._without += 1
                slots = self._takers.slots if self._takers is not None else 0
                self._takers = Takers(slots, takers.waiting)
