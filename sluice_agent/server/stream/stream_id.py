"""Ids of frames on the wire: the database's epoch, the number of the connection, and a position in it.

Clients send back what they received.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"(.+-[0-9]+)-([0-9]{1,18})", re.ASCII)


def id_prefix(epoch: str, connection: int) -> str:
    """Return what all ids of a connection of a database begin with."""
    return f"{epoch}-{connection}"


def stream_id(prefix: str, position: int) -> str:
    """Return the id of the frame at `position`."""
    return f"{prefix}-{position}"


def position_of(text: str, prefix: str) -> int | None:
    """Return the position in an id, None if the id is of another database or connection."""
    match = _FORM.fullmatch(text)
    return int(match[2]) if match and match[1] == prefix else None
