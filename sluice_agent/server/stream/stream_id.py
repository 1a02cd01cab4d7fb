"""Ids of frames on the wire: the database's epoch and a position in it. Clients send back what they received."""

from __future__ import annotations

import re

_FORM = re.compile(r"(.+)-([0-9]{1,18})", re.ASCII)


def stream_id(epoch: str, position: int) -> str:
    """Return the id of the frame at `position`."""
    return f"{epoch}-{position}"


def position_of(text: str, epoch: str) -> int | None:
    """Return the position in an id, None if the id is not of the database with `epoch`."""
    match = _FORM.fullmatch(text)
    return int(match[2]) if match and match[1] == epoch else None
