"""The thread that sends what is due: a few deliveries at a time, chosen so that an endpoint that hangs holds up no
other (`endpoints.py`)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread, current_thread
from typing import TypeAlias

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.outbound.addresses import origin_of
from sluice_agent.server.store import DATABASE_ERRORS, reason_of
from sluice_agent.server.webhooks.endpoints import Endpoints
from sluice_agent.server.webhooks.ledger import Delivery, Ledger
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

    def _run(self) -> None:
        must_end_claims = self._is_alone
        while not self._stopped.is_set():
            try:
                if must_end_claims:
                    self._ledger.end_claims()
                    must_end_claims = False
                self._send_due()
                self._delete_old()
            except DATABASE_ERRORS as error:
                warn_limited("webhooks", "Webhooks wait for the database (%s)", reason_of(error))
            except Exception as error:  # noqa: BLE001 - without this thread nothing is sent any more
                log_failure(error, "Webhooks failed; they are taken up again")
            self._wake.wait(self._pace.poll)
            self._wake.clear()

    def _send_due(self) -> None:
        while not self._stopped.is_set() and not self._endpoints.is_full:
            chosen = self._endpoints.choose(self._ledger.first_due(list(self._signs)), self._now())
            if not chosen:
                return
            for delivery in self._ledger.claim([due.id for due in chosen]):
                thread = Thread(target=self._send_one, args=(delivery, time.monotonic()), name="webhook", daemon=True)
                self._endpoints.begin(delivery.content.url)
                with self._lock:
                    self._threads.add(thread)
                thread.start()

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
                self._settle(delivery, outcome or unsigned, started_at)
        except DATABASE_ERRORS as error:  # the claim ends by itself
            _log.warning("The webhook %s is sent again: its answer was not stored (%s)", delivery.id, reason_of(error))
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

    def _settle(self, delivery: Delivery, outcome: Outcome, started_at: int) -> None:
        state, due_at = after_attempt(outcome, delivery.attempt, self._now(), self._chance)
        if self._ledger.settle(delivery, outcome, state, due_at, started_at):
            _report(delivery, outcome, state)


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


def _report(delivery: Delivery, outcome: Outcome, state: DeliveryState) -> None:
    if state in (DeliveryState.GONE, DeliveryState.FAILED):
        _log.warning(
            "The webhook %s about %s to %s is given up after %d attempts: %s",
            delivery.id,
            delivery.content.subject,
            origin_of(delivery.content.url),
            delivery.attempt,
            outcome.status or outcome.error,
        )
