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
    """From now on `os.setuid` keeps that capability, and no other; `os.seteuid` of another user than root as well."""
    setuid: Callable[[int], None] = os.setuid
    seteuid: Callable[[int], None] = os.seteuid
    libc = ctypes.CDLL(None, use_errno=True)

    def header() -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * 2)(_VERSION_3, 0)

    def setuid_and_keep(user: int) -> None:
        if not os.geteuid():
            _must(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        setuid(user)
        effective, permitted = _DAC_READ_SEARCH, _DAC_READ_SEARCH
        _must(libc.capset(header(), (ctypes.c_uint32 * 6)(effective, permitted, 0, 0, 0, 0)))

    def seteuid_and_keep(user: int) -> None:
        seteuid(user)
        if user:
            held = (ctypes.c_uint32 * 6)()
            _must(libc.capget(header(), held))
            held[0] = _DAC_READ_SEARCH  # what is effective; what is permitted comes back with root
            held[3] = 0
            _must(libc.capset(header(), held))

    os.setuid, os.seteuid = setuid_and_keep, seteuid_and_keep


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
