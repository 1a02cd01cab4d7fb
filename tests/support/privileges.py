"""A process that becomes another user than root, and can still read its own Python and the clone that it runs from.

Both may lie below a folder that only root may enter. It keeps the capability to read and to enter everything; what it
may write, and what belongs to it, is as for any other process of that user. Linux alone has capabilities.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

_PR_SET_KEEPCAPS = 8
_VERSION_3 = 0x20080522  # of the kernel's structure
_DAC_READ_SEARCH = 1 << 2


def keep_reading() -> None:
    """From now on `os.setuid` keeps that capability, and no other."""
    setuid: Callable[[int], None] = os.setuid
    libc = ctypes.CDLL(None, use_errno=True)

    def setuid_and_keep(user: int) -> None:
        if not os.geteuid():
            _must(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        setuid(user)
        header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
        effective, permitted = _DAC_READ_SEARCH, _DAC_READ_SEARCH
        _must(libc.capset(header, (ctypes.c_uint32 * 6)(effective, permitted, 0, 0, 0, 0)))

    os.setuid = setuid_and_keep


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
