"""`flock`: how processes agree, and how one knows that another has died. The kernel lets go when the holder dies."""

from __future__ import annotations

import fcntl


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if nobody else has it, or only others who share it.

    Raises OSError where the file system can't lock.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, and the journal needs flock") from error
    return True
