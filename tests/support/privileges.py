"""Lets a process that stops being root still read its own Python and the clone that it runs from.

Both may be below a directory that only root may enter. The process keeps the capability to read and enter everything;
its write permissions and the files it owns are those of any process of that user. Only Linux has capabilities.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

_PR_SET_KEEPCAPS = 8
_VERSION_3 = 0x20080522  # of the kernel's structure
_DAC_READ_SEARCH = 1 << 2


def keep_reading() -> None:
    """Make `os.setuid` keep that capability, and no other; and `os.seteuid` too, for users other than root."""
    setuid: Callable[[int], None] = os.setuid
    seteuid: Callable[[int], None] = os.seteuid
    libc = ctypes.CDLL(None, use_errno=True)

    def header() -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * 2)(_VERSION_3, 0)

    def setuid_and_keep(user: int) -> None:
        if not os.geteuid():
            _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        setuid(user)
        effective, permitted = _DAC_READ_SEARCH, _DAC_READ_SEARCH
        _check(libc.capset(header(), (ctypes.c_uint32 * 6)(effective, permitted, 0, 0, 0, 0)))

    def seteuid_and_keep(user: int) -> None:
        seteuid(user)
        if user:
            sets = (ctypes.c_uint32 * 6)()
            _check(libc.capget(header(), sets))
            sets[0] = _DAC_READ_SEARCH  # the effective set; root gets the permitted one back
            sets[3] = 0
            _check(libc.capset(header(), sets))

    os.setuid, os.seteuid = setuid_and_keep, seteuid_and_keep


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
