"""Views that many tabs ask for again and again: made once for all that wait, and for a quarter of the time at most."""

from __future__ import annotations

from asyncio import Lock, sleep
from collections import defaultdict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from starlette.concurrency import run_in_threadpool

_PAUSE = 3  # times as long as it took to make the view

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Made(NamedTuple, Generic[V]):
    """A view, the moment at which it began to be made, and the one before which no other is made."""

    view: V
    began: float
    not_before: float


class SharedViews(Generic[K, V]):
    """The view of each key, made by `make` in a thread. It is never older than the request for it."""

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
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
                await sleep(max(0.0, last.not_before - monotonic()))
            began = monotonic()
            view = await run_in_threadpool(self._make, key)
            ended = monotonic()
            self._made[key] = _Made(view, began, ended + _PAUSE * (ended - began))
            return view
