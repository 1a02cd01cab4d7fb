"""`flock`: how processes exclude each other and detect a holder's death. The kernel releases a dead holder's lock.

A lock belongs to the open file, and a forked child has a copy of that. Our fork hook (`os.register_at_fork`) closes the
copies in a child of Python's fork. A fork in C (uWSGI's) runs no hook: so the process that took a lock releases it
explicitly before it closes the file, and a child never does. A child without hooks may already have closed its copies,
and have opened other files under their numbers: it closes a descriptor only if that still is the same file.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from sluice_agent.async_exceptions import is_asynchronous


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file; return False if another process holds it and does not share it.

    Raises OSError where the file system can't lock.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if is_asynchronous(error):
            raise
        raise OSError(error.errno, f"{error.strerror}, and the journal needs flock") from error
    return True


def identity(descriptor: int) -> tuple[int, int]:
    """Return the device and inode of an open file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def close_locked(descriptor: int, owner: int | None = None, opened: tuple[int, int] | None = None) -> None:
    """Close an open file, and release its lock for all copies of it.

    `owner` is the process that took the lock, where the caller may be a forked child of it: a child closes its copy
    only, and only if that still is the file that was `opened`.
    """
    if owner is None or owner == os.getpid():
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        return
    with suppress(OSError):  # closed already
        if opened is None or opened == identity(descriptor):
            os.close(descriptor)
