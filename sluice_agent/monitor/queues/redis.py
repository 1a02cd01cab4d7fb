"""Depths in Redis: a queue is a list for each of its priorities.

Everything that a user may change (`priority_steps`, `sep`, `global_keyprefix`, sentinels, TLS) is kombu's to know: its
own channel names the keys, which are read in one round trip.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

from sluice_agent.monitor.queues.depth import Depth

_BINDINGS_LAST = 60.0  # seconds: queues that somebody has bound meanwhile are found within a minute


class RedisGauge:
    """Tells the queues that were asked for, and those that workers have bound to the same exchanges."""

    def __init__(self, channel: Any, exchanges: Iterable[str]) -> None:
        self._channel = channel
        self._exchanges = sorted(set(exchanges))
        self._bound: set[str] = set()
        self._looked = -_BINDINGS_LAST

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, Depth]:  # noqa: ARG002 (Gauge's)
        """The depth of each queue, those that were found by their bindings too. A queue that is empty has no key."""
        self._look_at_bindings()
        every = sorted({*names, *self._bound})
        keys = [(name, self._channel._q_for_pri(name, step)) for name in every for step in self._channel.priority_steps]
        ready = dict.fromkeys(every, 0)
        with self._channel.client.pipeline(transaction=False) as pipe:  # no transaction: a cluster has none
            for _, key in dict.fromkeys(keys):
                pipe.llen(key)
            lengths = pipe.execute()
        for (name, _), length in zip(dict.fromkeys(keys), lengths, strict=True):
            ready[name] += length
        return {name: Depth(length) for name, length in ready.items()}

    def _look_at_bindings(self) -> None:
        if time.monotonic() - self._looked < _BINDINGS_LAST:
            return
        self._bound = {str(row[2]) for exchange in self._exchanges for row in self._channel.get_table(exchange)}
        self._looked = time.monotonic()
