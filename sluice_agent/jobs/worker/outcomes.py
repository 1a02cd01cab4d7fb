"""Outcomes on their way to the server: each is a file of its own, from before it is sent until the server has it.

So an outcome outlives its process, and a server that is away. Any process of the host delivers what another has left.
Nothing evicts the files: each stands for a request that must not be sent again.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sluice_agent.jobs.attempts.records import Outcome
from sluice_agent.jobs.worker.server import RefusedError, ServerAwayError
from sluice_agent.log import warn_limited
from sluice_agent.transport.journal.directory import open_private
from sluice_agent.transport.journal.flock import try_lock

_SUFFIX = ".outcome"
_LOCK = "reported.lock"  # of the process that reports the executions as alive
_BEGINNING = re.compile(rb'\{"run_id":"([\x20-\x7e]+?)",')  # of a file, as `Finish` is written
_LONGEST_BEGINNING = 256  # bytes
_FAILURES = 3  # in a row, after which what waits is left for later: the server is away


class Finish(BaseModel):
    """What `finish` sends."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    attempt: int
    execution: str
    outcome: Outcome


Deliver = Callable[[Finish], str | None]
"""Sends an outcome. It returns the run's status, and raises if the server does not have it."""


class OutcomeFiles:
    """The outcomes in `directory`, which this user owns. One directory is for one server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs: dict[Path, str] = {}  # of the files that `executions` has looked into
        self._lock: int | None = None  # the descriptor of the lock of the first process
        os.register_at_fork(after_in_child=self._leave)

    def deliver(self, finish: Finish, send: Deliver) -> str | None:
        """Store an outcome, send it, and remove it. What `send` raises leaves it stored, for `deliver_waiting`."""
        path = self._directory / f"{finish.execution}{_SUFFIX}"
        try:
            descriptor = _store(path, finish.model_dump_json().encode())
        except OSError as error:
            warn_limited(
                "jobs-outcomes",
                "No outcome can be stored in %s (%s): it is lost if the server is away",
                self._directory,
                error.strerror or error,
            )
            return send(finish)
        try:
            status = send(finish)
            path.unlink(missing_ok=True)
            return status
        finally:
            os.close(descriptor)

    def deliver_waiting(
        self, send: Deliver, goes_on: Callable[[], bool] = lambda: True, unwanted: Collection[str] = ()
    ) -> int:
        """Send what waits, the oldest first, while `goes_on` returns true, and return how many that were.

        An outcome that the server does not take, or that can't be read, waits behind all others. It is removed if its
        execution is one of `unwanted`: its attempt has ended for the server. The third failure in a row is raised.
        """
        sent = failures = 0
        for path in self.waiting():
            if not goes_on():
                break
            with _locked(path) as content:
                if content is None:
                    continue
                try:
                    send(Finish.model_validate_json(content))
                except (RefusedError, ServerAwayError, ValidationError) as error:
                    _put_off(path, error, is_wanted=path.stem not in unwanted)
                    failures += 1
                    if failures == _FAILURES:
                        raise
                    continue
                path.unlink(missing_ok=True)
                sent += 1
                failures = 0
        return sent

    def executions(self) -> dict[str, str]:
        """Return the executions whose outcomes wait, each with its run; those that are being sent are among them.

        Of the processes of a directory one is answered, until it ends: to all others none waits.
        """
        if not self._is_first():
            return {}
        runs: dict[Path, str] = {}
        for path in self.waiting():
            run_id = self._runs.get(path) or _run_in(path)
            if run_id is not None:
                runs[path] = run_id
        self._runs = runs
        return {path.stem: run_id for path, run_id in runs.items()}

    def _is_first(self) -> bool:
        """Take the lock of the directory if it is free, and return whether this process has it."""
        if self._lock is None:
            descriptor = open_private(self._directory / _LOCK, os.O_RDWR | os.O_CREAT)
            if try_lock(descriptor):
                self._lock = descriptor
            else:
                os.close(descriptor)
        return self._lock is not None

    def _leave(self) -> None:
        """Leave the lock to the parent: a forked child has a descriptor of it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def waiting(self) -> list[Path]:
        """Return the files of outcomes, the oldest first; those that are being sent are among them."""
        found = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]


def _store(path: Path, content: bytes) -> int:
    """Write a file, which is locked from its beginning: no other process sends it. Return its descriptor."""
    draft = path.with_suffix(".draft")
    descriptor = open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        draft.rename(path)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def _put_off(path: Path, error: Exception, *, is_wanted: bool) -> None:
    """Let an outcome wait behind all others, or remove it. A file without a run is set aside."""
    reason = "another version has written it" if isinstance(error, ValidationError) else str(error)
    run_id = _run_in(path)
    if run_id is None:
        path.rename(path.with_suffix(".unreadable"))
    elif is_wanted:
        warn_limited("jobs-server", "The outcome of run %s waits for its server: %s", run_id, reason)
        os.utime(path)
    else:
        warn_limited("jobs-unwanted", "The outcome of run %s, which has ended, is removed: %s", run_id, reason)
        path.unlink(missing_ok=True)


def _run_in(path: Path) -> str | None:
    """Return the run in a file, of which only the beginning is read: an outcome may be large."""
    with suppress(OSError), path.open("rb") as file:
        begins = _BEGINNING.match(file.read(_LONGEST_BEGINNING))
        return None if begins is None else begins[1].decode()
    return None


@contextmanager
def _locked(path: Path) -> Iterator[bytes | None]:
    """Yield the content of a file that no other process is sending; None if one is, or has sent it."""
    try:
        descriptor = open_private(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield path.read_bytes() if path.exists() else None
    finally:
        os.close(descriptor)
