"""Views that many tabs ask for again and again: made once for all that wait, and for a quarter of the time at most.

That is meant over a longer time: a reader who opens a page now and then does not wait.
"""

from __future__ import annotations

from asyncio import Lock, sleep
from collections import defaultdict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from starlette.concurrency import run_in_threadpool

_SHARE = 0.25  # of the time, in which a view is made
_AHEAD = 8.0  # seconds of which the share may be used at once

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Made(NamedTuple, Generic[V]):
    """A view, the moment at which it began to be made, and the one up to which the share of the time is used."""

    view: V
    began: float
    used_until: float


class SharedViews(Generic[K, V]):
    """The view of each key, made by `make` in a thread. It is never older than the request for it.

    The share of so many seconds `ahead` may be used at once.
    """

    def __init__(self, make: Callable[[K], V], ahead: float = _AHEAD) -> None:
        self._make = make
        self._ahead = ahead
        self._made: dict[K, _Made[V]] = {}
        self._locks: defaultdict[K, Lock] = defaultdict(Lock)

    async def get(self, key: K) -> V:
        """Return a view that began to be made after this call. Those who wait meanwhile get the same one."""
        asked = monotonic()
        async with self._locks[key]:
            last = self._made.get(key)
            if last is not None:
                if last.began >= asked:
                    return last.view
                await sleep(max(0.0, last.used_until - self._ahead - monotonic()))
            began = monotonic()
            view = await run_in_threadpool(self._make, key)
            used_from = began if last is None else max(began, last.used_until)
            self._made[key] = _Made(view, began, used_from + (monotonic() - began) / _SHARE)
            return view
