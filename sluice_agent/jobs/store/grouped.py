"""Changes of many requests at once, in one transaction: a commit costs as much as several of them.

One thread takes what waits. Under load it lets more of them come, as the fewer transactions there are the more runs the
server's CPU is enough for; a change that comes alone does not wait. Changes of one kind are made together, by as few
statements as their function needs. A change that fails takes no other with it: each is then made alone. While the
database is away all fail, as their clients ask again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Event, Thread
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.database import means_away
from sluice_agent.server.store.driver import UnavailableError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_GROUP = 100  # changes that one transaction takes
_GATHERING = 0.01  # seconds from one transaction to the next, as long as each has changes of several requests


class _Waiting(NamedTuple):
    make: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    item: Any
    future: Future[Any]


class GroupedChanges:
    """The thread that makes changes in `store`. It starts with the first one."""

    def __init__(self, store: JobsStore) -> None:
        self._store = store
        self._condition = Condition()
        self._waiting: deque[_Waiting] = deque()
        self._thread: Thread | None = None
        self._closing = Event()

    def submit(self, change: Callable[[Connection], _Result]) -> Future[_Result]:
        """Have `change` called in a transaction; its result is there once that is committed.

        It may be called again after a failure. Raises `UnavailableError` after `close`.
        """
        return self.join(_each, change)

    def join(self, make: Callable[[Connection, Sequence[_Item]], Sequence[_Result]], item: _Item) -> Future[_Result]:
        """Have `make` called in a transaction with `item`, and with all that waits for the same function. It returns
        the result of each item, in their order. All else is as with `submit`."""
        future: Future[_Result] = Future()
        with self._condition:
            if self._closing.is_set():
                raise UnavailableError("the server is shutting down")
            self._waiting.append(_Waiting(make, item, future))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="jobs changes", daemon=True)
                self._thread.start()
            self._condition.notify()
        return future

    def close(self) -> None:
        """Make all changes that wait, and end the thread."""
        with self._condition:
            self._closing.set()
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        begun, size = 0.0, 0
        while True:
            with self._condition:
                while not self._waiting and not self._closing.is_set():
                    self._condition.wait()
                if not self._waiting:
                    return
            if size > 1:
                self._closing.wait(max(begun + _GATHERING - time.monotonic(), 0))
            with self._condition:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
            begun, size = time.monotonic(), len(group)
            self._make(group)

    def _make(self, group: Sequence[_Waiting]) -> None:
        """Make the changes of a group, whose futures can no longer be cancelled."""
        group = [waiting for waiting in group if waiting.future.set_running_or_notify_cancel()]
        if group:
            self._commit(group)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            with self._store.writing() as writer:
                results = _results(writer, group)
        except Exception as error:  # noqa: BLE001 - it is the answer to those who wait
            if len(group) > 1 and not means_away(error):
                for waiting in group:
                    self._commit([waiting])
            else:
                for waiting in group:
                    waiting.future.set_exception(error)
        else:
            for waiting, result in zip(group, results, strict=True):
                waiting.future.set_result(result)


def _each(writer: Connection, changes: Sequence[Callable[[Connection], _Result]]) -> list[_Result]:
    return [change(writer) for change in changes]


def _results(writer: Connection, group: Sequence[_Waiting]) -> list[Any]:
    """Make the changes of a group, those of one kind together, and return the result of each."""
    positions: dict[Callable[[Connection, Sequence[Any]], Sequence[Any]], list[int]] = {}
    for position, waiting in enumerate(group):
        positions.setdefault(waiting.make, []).append(position)
    results: list[Any] = [None] * len(group)
    for make, of_kind in positions.items():
        made = make(writer, [group[position].item for position in of_kind])
        for position, result in zip(of_kind, made, strict=True):
            results[position] = result
    return results
