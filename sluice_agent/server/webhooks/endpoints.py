"""How many deliveries are sent at once, and to which URLs, so that one that does not answer holds up no other. It is
in memory only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from sluice_agent.outbound.retry_after import seconds_asked
from sluice_agent.server.webhooks.ledger import Due
from sluice_agent.server.webhooks.schedule import Outcome

_SECOND = 1_000_000  # microseconds
_HANGS = 2  # seconds without an answer; a URL that fails sooner is down, and takes no place for long
_LONGEST_HOLD = 60  # seconds for which nothing is sent to a URL that hangs
_LONGEST_ASKED = 300  # seconds: of a longer Retry-After another delivery is sent before its end
_BUSY_STATUSES = (429, 503)  # whose Retry-After is about all deliveries
_MOST = 10_000  # URLs that are remembered


@dataclass(slots=True)
class _Endpoint:
    """A URL. `failures` are attempts without an answer, in a row; `is_proven`: the last one was answered."""

    in_progress: int = 0
    failures: int = 0
    is_proven: bool = False
    held_until: int = 0


class Endpoints:
    """The URLs that deliveries go to, at most `at_once` at a time and `to_one` to one URL.

    One at a time goes to a URL that has not answered the last attempt, or had none; and all of these together have half
    of the places, so that the others are never without. A URL that hangs has a pause, as long as that has taken and
    longer after several, as it takes a place; one that is down does not.

    Thread-safe; moments are microseconds since 1970.
    """

    def __init__(self, at_once: int, to_one: int) -> None:
        self._at_once = at_once
        self._to_one = to_one
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = Lock()

    @property
    def is_full(self) -> bool:
        """True if no delivery may begin now."""
        with self._lock:
            return self._in_progress() >= self._at_once

    def choose(self, due: Sequence[Due], now: int) -> list[Due]:
        """Return which of these deliveries, of different URLs, may begin now."""
        with self._lock:
            places = self._at_once - self._in_progress()
            doubtful = max(1, self._at_once // 2) - self._in_progress(is_proven=False)
            chosen: list[Due] = []
            for candidate in sorted(due, key=self._order):
                endpoint = self._endpoints.get(candidate.url) or _Endpoint()
                if len(chosen) == places:
                    break
                if endpoint.held_until > now or endpoint.in_progress >= (self._to_one if endpoint.is_proven else 1):
                    continue
                if not endpoint.is_proven:
                    if doubtful <= 0:
                        continue
                    doubtful -= 1
                chosen.append(candidate)
            return chosen

    def begin(self, url: str) -> None:
        """Record that a delivery is sent to `url`."""
        with self._lock:
            self._endpoints.setdefault(url, _Endpoint()).in_progress += 1

    def end(self, url: str, outcome: Outcome | None, began_at: int, now: int) -> None:
        """Record what has come of a delivery that began then; None: nothing was sent."""
        with self._lock:
            endpoint = self._endpoints[url]
            endpoint.in_progress -= 1
            if outcome is None:
                return
            if outcome.status is None:
                endpoint.is_proven = False
                endpoint.failures += 1
                taken = (now - began_at) / _SECOND
                hold = min(taken * min(endpoint.failures, 3), _LONGEST_HOLD) if taken >= _HANGS else 0
            else:
                endpoint.is_proven = True
                endpoint.failures = 0
                is_asked = outcome.status in _BUSY_STATUSES
                hold = min(seconds_asked(outcome.retry_after, now / _SECOND), _LONGEST_ASKED) if is_asked else 0
            endpoint.held_until = max(endpoint.held_until, now + round(hold * _SECOND))
            if len(self._endpoints) > _MOST:
                self._forget(now)

    def _order(self, due: Due) -> tuple[int, int]:
        endpoint = self._endpoints.get(due.url)
        return (0 if endpoint is None else endpoint.failures), due.due_at

    def _in_progress(self, *, is_proven: bool = True) -> int:
        """Return how many deliveries are sent now; only those to URLs that did not answer, if `is_proven` is false."""
        return sum(endpoint.in_progress for endpoint in self._endpoints.values() if is_proven or not endpoint.is_proven)

    def _forget(self, now: int) -> None:
        self._endpoints = {
            url: endpoint
            for url, endpoint in self._endpoints.items()
            if endpoint.in_progress or endpoint.held_until > now
        }
