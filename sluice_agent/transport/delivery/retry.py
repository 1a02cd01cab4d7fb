"""The only file that retries: how long the shipper waits, and what wakes it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential

from sluice_agent.transport.delivery.responses import FinalVerdict, TryAgain, Verdict
from sluice_agent.transport.delivery.timing import TIMING, Timing

_JITTER = 0.5  # of a wait that the endpoint asked for: a fleet that was given one moment must not come at once
_EXACT_JITTER = 0.1  # of a wait that is exact


class GivenUpError(Exception):
    """The shipper gave up a batch without a verdict: it shuts down, or has lost or yielded its lock."""


class Retrier:
    """Retries until there is a verdict: full-jitter exponential backoff, never sooner than the endpoint asks.

    After `begin_shutdown` the next failure is the last, and a wait that the endpoint asked for is given up, not cut
    short: a process that shuts down leaves the rest in the journal. `clock` is monotonic; `wait` waits for an event, at
    most for so many seconds, and returns whether it is set.
    """

    def __init__(
        self,
        on_failure: Callable[[TryAgain], None],
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._on_failure = on_failure
        self._timing = timing
        self._clock = clock
        self._wait_for = wait
        self._jitter = wait_random_exponential(multiplier=timing.first_backoff, max=timing.max_backoff)
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

    def verdict(self, attempt: Callable[[], Verdict]) -> FinalVerdict:
        """Return the first verdict of `attempt` that is not `TryAgain`. Raises `GivenUpError`."""
        self._wait_until_allowed()
        first = attempt()  # almost always the last: `Retrying` would take as long as a tenth of the request
        if not isinstance(first, TryAgain):
            return first
        results = [first]
        retrying = Retrying(
            retry=retry_if_result(lambda verdict: isinstance(verdict, TryAgain)),
            wait=self._time_to_wait,
            sleep=self._back_off,
            stop=lambda _: self.is_shutting_down,
            before_sleep=self._report,
            retry_error_callback=_result,
        )
        verdict = retrying(lambda: results.pop() if results else attempt())
        if isinstance(verdict, TryAgain):
            self._record(verdict)
            raise GivenUpError
        return verdict

    def _back_off(self, seconds: float) -> None:
        self._wait(self._shutdown, seconds)
        self._wait_until_allowed()

    def _wait_until_allowed(self) -> None:
        """Wait as the endpoint asked: that applies to every later attempt, including the last one at shutdown."""
        wait = self._not_before - self._clock()
        if wait > 0 and self._wait(self._shutdown, wait):
            raise GivenUpError

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.is_waiting = True
        try:
            return self._wait_for(event, seconds)
        finally:
            self.is_waiting = False

    def _report(self, state: RetryCallState) -> None:
        verdict = _result(state)
        if isinstance(verdict, TryAgain):
            self._record(verdict)

    def _record(self, failure: TryAgain) -> None:
        self._not_before = self._clock() + self._asked_wait(failure)[0]
        self._on_failure(failure)

    def _time_to_wait(self, state: RetryCallState) -> float:
        verdict = _result(state)
        if not isinstance(verdict, TryAgain):
            return 0.0
        wait, is_exact = self._asked_wait(verdict)
        wait *= 1 + random.random() * (_EXACT_JITTER if is_exact else _JITTER)  # noqa: S311 - guessing it gains nothing
        return wait if is_exact else wait + self._jitter(state)

    def _asked_wait(self, verdict: TryAgain) -> tuple[float, bool]:
        """Return the shortest wait that the verdict allows, and whether nothing is added to it but a small jitter."""
        return (self._timing.correction, True) if verdict.until_corrected else (verdict.wait, verdict.exact)


def _result(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome is not None else None
