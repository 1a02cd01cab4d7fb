"""The one file that retries: how long to wait, and who wakes the one that waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential

from sluice_agent.transport.responses import TryAgain, Verdict

_FIRST_WAIT = 0.5  # seconds, at the most, before the second attempt
_LONGEST_BACKOFF = 60.0  # seconds
_SPREAD = 0.5  # of a wait that the endpoint asked for: a fleet that was told one moment must not come at that moment
_SPREAD_OF_A_HOLD = 0.1
_full_jitter = wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_BACKOFF)


class GivenUpError(Exception):
    """The shipper was told to stop while it tried; nothing is settled."""


class Retrier:
    """Tries until there is a verdict: full-jitter exponential backoff, never sooner than the endpoint asks.

    After `begin_shutdown` the next failure is the last, and a wait that the endpoint asked for is given up, not cut
    short: a process that shuts down leaves the rest in the journal.
    """

    def __init__(self, on_failure: Callable[[TryAgain], None]) -> None:
        self._on_failure = on_failure
        self._shutdown = threading.Event()
        self._awake = threading.Event()
        self._not_before = 0.0
        self.waits = False
        """Whether the one that tries waits just now, for a time that is known."""

    def begin_shutdown(self) -> None:
        """Wake the one that waits, and give up at its next failure."""
        self._shutdown.set()
        self._awake.set()

    def wake(self) -> None:
        """End a `pause`, but no wait between two attempts."""
        self._awake.set()

    @property
    def is_shutting_down(self) -> bool:
        """Whether `begin_shutdown` was said."""
        return self._shutdown.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, until somebody has a hurry or nudges."""
        self._wait(self._awake, seconds)
        if not self.is_shutting_down:
            self._awake.clear()

    def verdict(self, attempt: Callable[[], Verdict]) -> Verdict:
        """The first answer of `attempt` that is not `TryAgain`. Raises `GivenUpError`."""
        self._wait_as_asked()
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
        self._wait_as_asked()

    def _wait_as_asked(self) -> None:
        """What an endpoint asked for holds for every later attempt, a last one at shutdown included."""
        wait = self._not_before - time.monotonic()
        if wait > 0 and self._wait(self._shutdown, wait):
            raise GivenUpError

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits = True
        try:
            return event.wait(seconds)
        finally:
            self.waits = False

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
    spread = _SPREAD_OF_A_HOLD if verdict.exact else _SPREAD
    wait = verdict.wait * (1 + random.random() * spread)  # noqa: S311 - nobody gains by guessing it
    return wait if verdict.exact else wait + _full_jitter(state)


def _result(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome is not None else None
