"""The only file that retries: how long the shipper waits, and what wakes it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential

from sluice_agent.transport.delivery.responses import TryAgain, Verdict

_FIRST_BACKOFF = 0.5  # seconds at the most before the second attempt
_MAX_BACKOFF = 60.0  # seconds
_JITTER = 0.5  # of a wait that the endpoint asked for: a fleet that was told one moment must not come at that moment
_EXACT_JITTER = 0.1  # of a wait that is exact
_full_jitter = wait_random_exponential(multiplier=_FIRST_BACKOFF, max=_MAX_BACKOFF)


class GivenUpError(Exception):
    """The shipper gave up a batch without a verdict: it shuts down, or has lost or yielded its lock."""


class Retrier:
    """Retries until there is a verdict: full-jitter exponential backoff, never sooner than the endpoint asks.

    After `begin_shutdown` the next failure is the last, and a wait that the endpoint asked for is given up, not cut
    short: a process that shuts down leaves the rest in the journal.
    """

    def __init__(self, on_failure: Callable[[TryAgain], None]) -> None:
        self._on_failure = on_failure
        self._shutdown = threading.Event()
        self._awake = threading.Event()
        self._not_before = 0.0
        self.is_waiting = False
        """Whether the shipping thread is waiting here, for a limited time."""

    def begin_shutdown(self) -> None:
        """Wake the shipping thread, and give up at its next failure."""
        self._shutdown.set()
        self._awake.set()

    def wake(self) -> None:
        """End a `pause`, but not a wait between two attempts."""
        self._awake.set()

    @property
    def is_shutting_down(self) -> bool:
        """Whether `begin_shutdown` was called."""
        return self._shutdown.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until `wake` or `begin_shutdown` is called."""
        self._wait(self._awake, seconds)
        if not self.is_shutting_down:
            self._awake.clear()

    def verdict(self, attempt: Callable[[], Verdict]) -> Verdict:
        """Return the first verdict of `attempt` that is not `TryAgain`. Raises `GivenUpError`."""
        self._wait_until_allowed()
        retrying = Retrying(
            retry=retry_if_result(lambda verdict: isinstance(verdict, TryAgain)),
            wait=_wait,
            sleep=self._back_off,
            stop=lambda _: self.is_shutting_down,
            before_sleep=self._report,
            retry_error_callback=self._give_up,
        )
        return retrying(attempt)

    def _back_off(self, seconds: float) -> None:
        self._wait(self._shutdown, seconds)
        self._wait_until_allowed()

    def _wait_until_allowed(self) -> None:
        """Wait as the endpoint asked: that applies to every later attempt, including the last one at shutdown."""
        wait = self._not_before - time.monotonic()
        if wait > 0 and self._wait(self._shutdown, wait):
            raise GivenUpError

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.is_waiting = True
        try:
            return event.wait(seconds)
        finally:
            self.is_waiting = False

    def _report(self, state: RetryCallState) -> None:
        verdict = _result(state)
        if isinstance(verdict, TryAgain):
            self._not_before = time.monotonic() + verdict.wait
            self._on_failure(verdict)

    def _give_up(self, state: RetryCallState) -> Verdict:
        self._report(state)
        raise GivenUpError


def _wait(state: RetryCallState) -> float:
    verdict = _result(state)
    if not isinstance(verdict, TryAgain):
        return 0.0
    jitter = _EXACT_JITTER if verdict.exact else _JITTER
    wait = verdict.wait * (1 + random.random() * jitter)  # noqa: S311 - guessing it gains nothing
    return wait if verdict.exact else wait + _full_jitter(state)


def _result(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome is not None else None
