"""The ids of what is stored: random, so that none can be guessed, and those of rows begin with their time."""

from __future__ import annotations

import secrets
import uuid

_MILLISECOND = 1_000  # microseconds
_VERSION, _VARIANT = 7, 0b10
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_VERSION_ID_LENGTH = 12


def new_id(moment: int) -> str:
    """Return a new UUID of version 7, which begins with the millisecond of `moment`."""
    timestamp = moment // _MILLISECOND & (1 << 48) - 1
    head = timestamp << 16 | _VERSION << 12 | secrets.randbits(12)
    return str(uuid.UUID(int=head << 64 | _VARIANT << 62 | secrets.randbits(62)))


def new_version_id() -> str:
    """Return a new id of a job's version."""
    return "ver_" + "".join(secrets.choice(_ALPHABET) for _ in range(_VERSION_ID_LENGTH))
