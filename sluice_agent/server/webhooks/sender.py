"""The thread that sends what is due: a few deliveries at a time, chosen so that an endpoint that hangs holds up no
other (`endpoints.py`)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread, current_thread
from typing import TypeAlias

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.outbound.addresses import origin_of
from sluice_agent.server.store import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.database import means_away
from sluice_agent.server.webhooks.endpoints import Endpoints
from sluice_agent.server.webhooks.ledger import Choose, Delivery, Due, Ended, Ledger
from sluice_agent.server.webhooks.schedule import DeliveryState, Outcome, after_attempt

_LATEST_START = 20.0  # seconds after the claim; then it may end before the exchange does
_log = logging.getLogger("sluice_agent.server.webhooks")


class UnsignedError(Exception):
    """The key that a delivery is signed with is not known. The message is a sentence without its full stop."""


Sign: TypeAlias = Callable[[Delivery, int, bytes], Mapping[str, str]]
"""Returns the headers of a delivery at a time, in seconds since 1970, with its body. Raises `UnsignedError`."""

Post: TypeAlias = Callable[[Delivery, Mapping[str, str], bytes], Outcome]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks for what is due and between two deletions, and how many deliveries are sent at once, in
    all and to one URL."""

    poll: float = 2.0
    deletion: float = 600.0
    at_once: int = 8
    to_one: int = 1
    close: float = 5.0


class Sender:
    """Sends the deliveries in `ledger` whose kind is in `signs`. `now` is in microseconds since 1970, `chance` returns
    a random number from 0 to 1.

    `is_alone`: no other process uses the database.
    """

    def __init__(
        self,
        ledger: Ledger,
        signs: Mapping[str, Sign],
        now: Callable[[], int],
        *,
        is_alone: bool,
        pace: Pace | None = None,
        post: Post | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._signs = signs
        self._now = now
        self._is_alone = is_alone
        self._pace = pace or Pace()
        self._post = post or post_over_http
        self._chance = chance
        self._endpoints = Endpoints(self._pace.at_once, self._pace.to_one)
        self._threads: set[Thread] = set()
        self._ended: list[Ended] = []
        self._lock = Lock()
        self._wake = Event()
        self._stopped = Event()
        self._next_deletion = 0.0
        self._thread = Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread. It sends what an earlier process has left."""
        self._thread.start()

    def wake(self) -> None:
        """Look for a new delivery now."""
        self._wake.set()

    def close(self) -> None:
        """Begin no further delivery, and wait a little for those in progress. The rest is sent by the next process."""
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(self._pace.close)
        deadline = time.monotonic() + self._pace.close
        for thread in self._senders():
            thread.join(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            try:
                self._settle(self._take_ended(), _none)
            except DATABASE_ERRORS as error:
                _log.warning("Webhooks are sent again: their answers were not stored (%s)", reason_of(error))

    def _run(self) -> None:
        must_end_claims = self._is_alone
        while not self._stopped.is_set():
            try:
                if must_end_claims:
                    self._ledger.end_claims()
                    must_end_claims = False
                self._take_turn()
                self._delete_old()
            except DATABASE_ERRORS as error:
                warn_limited("webhooks", "Webhooks wait for the database (%s)", reason_of(error))
            except Exception as error:  # noqa: BLE001 - without this thread nothing is sent any more
                log_failure(error, "Webhooks failed; they are taken up again")
            self._wake.wait(self._pace.poll)
            self._wake.clear()

    def _take_turn(self) -> None:
        """Record what has ended, and begin what is due. Nothing is written if there is neither."""
        ended = self._take_ended()
        if not ended and (self._endpoints.is_full or not self._choose(self._ledger.first_due(list(self._signs)))):
            return
        begun: list[Due] = []

        def begin(due: Sequence[Due]) -> list[Due]:
            chosen = [] if self._stopped.is_set() else self._choose(due)
            for item in chosen:
                self._endpoints.begin(item.url)
            begun.extend(chosen)
            return chosen

        claimed: Sequence[Delivery] = ()
        try:
            claimed = self._settle(ended, begin)
        finally:
            ids = {delivery.id for delivery in claimed}
            for item in begun:
                if item.id not in ids:  # another process has it
                    self._endpoints.end(item.url, None, 0, 0)
        for delivery in claimed:
            thread = Thread(target=self._send_one, args=(delivery, time.monotonic()), name="webhook", daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _choose(self, due: Sequence[Due]) -> list[Due]:
        return self._endpoints.choose(due, self._now())

    def _settle(self, ended: Sequence[Ended], choose: Choose) -> Sequence[Delivery]:
        """Record attempts, and return what was claimed of what `choose` takes. While the database is away they are
        kept; one that it does not store is left to the end of its claim, and takes no other with it."""
        try:
            turn = self._ledger.turn(ended, list(self._signs), choose)
        except Exception as error:
            if means_away(error):
                self._keep_ended(ended)
            elif len(ended) == 1:
                _log.warning("The webhook %s is sent again: its answer was not stored", ended[0].delivery.id)
            else:
                for attempt in ended:
                    self._settle_alone(attempt)
            raise
        for attempt, counts in zip(ended, turn.settled, strict=True):
            if counts:
                _report(attempt)
        return turn.claimed

    def _settle_alone(self, ended: Ended) -> None:
        try:
            self._settle([ended], _none)
        except DATABASE_ERRORS:
            return  # it is in the log

    def _keep_ended(self, ended: Sequence[Ended]) -> None:
        with self._lock:
            self._ended[:0] = ended

    def _take_ended(self) -> list[Ended]:
        with self._lock:
            ended, self._ended = self._ended, []
        return ended

    def _senders(self) -> list[Thread]:
        with self._lock:
            return list(self._threads)

    def _delete_old(self) -> None:
        if time.monotonic() >= self._next_deletion:
            self._ledger.delete_old()
            self._next_deletion = time.monotonic() + self._pace.deletion

    def _send_one(self, delivery: Delivery, claimed: float) -> None:
        outcome, started_at = None, self._now()
        try:
            if time.monotonic() - claimed < _LATEST_START:
                outcome, unsigned = self._post_signed(delivery, started_at)
                ended = self._ended_of(delivery, outcome or unsigned, started_at)
                with self._lock:
                    self._ended.append(ended)
        except DATABASE_ERRORS as error:  # the claim ends by itself
            _log.warning("The webhook %s is sent again: it could not be signed (%s)", delivery.id, reason_of(error))
        except Exception as error:  # noqa: BLE001 - as before
            log_failure(error, "The webhook %s failed; it is sent again", delivery.id)
        finally:
            self._endpoints.end(delivery.content.url, outcome, started_at, self._now())
            with self._lock:
                self._threads.discard(current_thread())
            self._wake.set()

    def _post_signed(self, delivery: Delivery, started_at: int) -> tuple[Outcome | None, Outcome]:
        """Send a delivery. Return what has come of it, None if it could not be signed; and the outcome of that."""
        body = delivery.content.body.encode()
        try:
            headers = self._signs[delivery.content.kind](delivery, started_at // 1_000_000, body)
        except UnsignedError as error:
            return None, Outcome(None, None, str(error))
        outcome = self._post(delivery, headers, body)
        return outcome, outcome

    def _ended_of(self, delivery: Delivery, outcome: Outcome, started_at: int) -> Ended:
        ended_at = self._now()
        state, due_at = after_attempt(outcome, delivery.attempt, ended_at, self._chance)
        return Ended(delivery, outcome, state, due_at, started_at, ended_at)


def post_over_http(
    delivery: Delivery, headers: Mapping[str, str], body: bytes, *, allows_private: bool = False
) -> Outcome:
    """Send one delivery, and return what has come of it. It may go to private addresses if either permits it."""
    from sluice_agent.outbound.http import NoAnswerError, post  # noqa: PLC0415 - a server without webhooks needs no httpx

    content = delivery.content
    try:
        answer = post(
            content.url,
            body,
            {"Content-Type": "application/json", "User-Agent": "sluice-agent", **headers},
            allows_private=content.allows_private or allows_private,
        )
    except NoAnswerError as error:
        return Outcome(None, None, str(error))
    return Outcome(answer.status, answer.retry_after, answer.text)


def _none(_: Sequence[Due]) -> list[Due]:
    """Choose nothing."""
    return []


def _report(ended: Ended) -> None:
    delivery, outcome = ended.delivery, ended.outcome
    if ended.state in (DeliveryState.GONE, DeliveryState.FAILED):
        _log.warning(
            "The webhook %s about %s to %s is given up after %d attempts: %s",
            delivery.id,
            delivery.content.subject,
            origin_of(delivery.content.url),
            delivery.attempt,
            outcome.status or outcome.error,
        )
