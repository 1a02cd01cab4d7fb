"""`flock`: how processes agree, and how one knows that another has died. The kernel lets go when the holder dies.

A lock belongs to the open file, and a child that is forked has a copy of that. Python's own fork closes the copies in
the child (`os.register_at_fork`). One in C (uWSGI's) does not: so the process that took a lock releases it by name
before it closes the file, and a child never does. A child without hooks may have closed its copies before we get there,
and have opened something else under their numbers: it closes what still is that file.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from sluice_agent.async_exceptions import is_asynchronous


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if nobody else has it, or only others who share it.

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
    """Which file an open one is."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def close_locked(descriptor: int, owner: int | None = None, opened: tuple[int, int] | None = None) -> None:
    """Close an open file, and release its lock for all copies of it.

    `owner` is the process that took the lock, where this may be another, a forked child: that one closes its copy only,
    and only while that is the file that was `opened`.
    """
    if owner is None or owner == os.getpid():
        with suppress(OSError):  # where nothing can be locked nothing is
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
        return
    with suppress(OSError):  # closed already
        if opened is None or opened == identity(descriptor):
            os.close(descriptor)
