"""One retry of a job at a time, in all processes that share the database: of two clicks, one is a mistake."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.store import DATABASE_ERRORS, Store, reason_of

_SECONDS = 120.0  # longer than a broker and the store are waited for; after a crash, the job can be retried then
_log = logging.getLogger("sluice_agent.server.actions")


class Exclusion:
    """Excludes a second retry of a job of `store` while one is being sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_progress: set[bytes] = set()
        self._lock = Lock()

    @contextmanager
    def of(self, uuid: bytes) -> Iterator[None]:
        """Exclude other retries of the job. Raises `RefusedError` (400) while one is being sent."""
        with self._lock:
            if uuid in self._in_progress:
                raise _in_progress()
            self._in_progress.add(uuid)
        try:
            if self._store.is_shared:
                with self._leased(uuid):
                    yield
            else:
                yield
        finally:
            with self._lock:
                self._in_progress.discard(uuid)

    @contextmanager
    def _leased(self, uuid: bytes) -> Iterator[None]:
        lease = self._store.lease(f"retry {uuid.hex()}", _SECONDS)
        if not lease.is_held():
            raise _in_progress()
        try:
            yield
        finally:
            try:
                lease.release()
            except DATABASE_ERRORS as error:  # the message may be sent, so the retry has not failed
                _log.warning("The job %s can't be retried for %d s: %s", uuid.hex(), _SECONDS, reason_of(error))


def _in_progress() -> RefusedError:
    return RefusedError(400, "The job is being retried just now.")
