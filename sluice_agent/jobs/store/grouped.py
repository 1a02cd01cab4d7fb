"""Changes of many requests at once, in one transaction: a commit costs as much as several of them.

One thread takes what waits. A change that fails takes no other with it: each is then made alone. While the database is
away all fail, as their clients ask again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.database import is_away
from sluice_agent.server.store.driver import UnavailableError

_Result = TypeVar("_Result")
_GROUP = 100  # changes that one transaction takes


class _Waiting(NamedTuple):
    change: Callable[[Connection], Any]
    future: Future[Any]


class GroupedChanges:
    """The thread that makes changes in `store`. It starts with the first one."""

    def __init__(self, store: JobsStore) -> None:
        self._store = store
        self._condition = Condition()
        self._waiting: deque[_Waiting] = deque()
        self._thread: Thread | None = None
        self._is_closing = False

    def submit(self, change: Callable[[Connection], _Result]) -> Future[_Result]:
        """Have `change` called in a transaction; its result is there once that is committed.

        It may be called again after a failure. Raises `UnavailableError` after `close`.
        """
        future: Future[_Result] = Future()
        with self._condition:
            if self._is_closing:
                raise UnavailableError("the server is shutting down")
            self._waiting.append(_Waiting(change, future))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="jobs changes", daemon=True)
                self._thread.start()
            self._condition.notify()
        return future

    def close(self) -> None:
        """Make all changes that wait, and end the thread."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._is_closing:
                    self._condition.wait()
                if not self._waiting:
                    return
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
            self._make(group)

    def _make(self, group: Sequence[_Waiting]) -> None:
        """Make the changes of a group, whose futures can no longer be cancelled."""
        group = [waiting for waiting in group if waiting.future.set_running_or_notify_cancel()]
        if not group:
            return
        try:
            with self._store.writing() as writer:
                results = [waiting.change(writer) for waiting in group]
        except Exception as error:  # noqa: BLE001 - it is the answer to those who wait
            if len(group) == 1 or isinstance(error, UnavailableError) or _means_away(error):
                for waiting in group:
                    waiting.future.set_exception(error)
            else:
                for waiting in group:
                    self._make_alone(waiting)
            return
        for waiting, result in zip(group, results, strict=True):
            waiting.future.set_result(result)

    def _make_alone(self, waiting: _Waiting) -> None:
        try:
            with self._store.writing() as writer:
                result = waiting.change(writer)
        except Exception as error:  # noqa: BLE001 - see above
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(result)


def _means_away(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and is_away(error)
