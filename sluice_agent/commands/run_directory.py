"""The directory of a ``sluice-agent run``: removed when that ends, or, if it was killed, when the next one starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sluice_agent.transport.journal.flock import try_lock

_PREFIX = "sluice-run-"
_LOCK = "lock"


@contextmanager
def run_directory() -> Iterator[tuple[Path, int]]:
    """Make a directory for one run; yield it, and the open file whose lock shows that it is in use.

    The command inherits that file: a run that was killed leaves the directory to its command, until that has ended too.
    """
    _remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        new = Path(name, "new")
        descriptor = os.open(new, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try_lock(descriptor)
            new.rename(new.with_name(_LOCK))  # it never has this name without its lock
            yield Path(name), descriptor
        finally:
            os.close(descriptor)


def _remove_leftovers(parent: Path) -> None:
    """Remove the directories of runs that were killed. Those of other users are left alone, whatever they link to."""
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):
            if lock.parent.lstat().st_uid == os.geteuid() and _is_free(lock):
                shutil.rmtree(lock.parent)


def _is_free(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)
