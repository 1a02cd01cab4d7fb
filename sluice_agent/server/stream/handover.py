"""The way of commits from the writer's thread to the event loop, which never makes the writer wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from threading import Lock

from sluice_agent.server.store import CommittedFrames

Missing = dict[int, int]
"""By a connection's number: the position up to which frames did not fit, and are only in the database."""


class Handover:
    """A bounded list of commits. `put` may be called in any thread; `receive` is called in `loop` with what came."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Sequence[CommittedFrames], Missing], None],
        limit: int,
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._limit = limit
        self._lock = Lock()
        self._commits: list[CommittedFrames] = []
        self._frames = 0
        self._missing: Missing = {}
        self._is_scheduled = False
        self._is_closed = False

    def put(self, commits: Sequence[CommittedFrames]) -> None:
        """Add `commits`, and return at once."""
        with self._lock:
            if self._is_closed:
                return
            for commit in commits:
                if self._frames + len(commit.frames) > self._limit:
                    self._missing[commit.connection] = commit.last
                else:
                    self._commits.append(commit)
                    self._frames += len(commit.frames)
            if not self._is_scheduled:
                self._is_scheduled = True
                self._loop.call_soon_threadsafe(self._take)

    def close(self) -> None:
        """Refuse all further commits."""
        with self._lock:
            self._is_closed = True

    def _take(self) -> None:
        with self._lock:
            commits, self._commits = self._commits, []
            missing, self._missing = self._missing, {}
            self._frames, self._is_scheduled = 0, False
        self._receive(commits, missing)
