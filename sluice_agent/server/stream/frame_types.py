"""The types of frames that a subscriber can choose, as the parameter `types` names them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class FrameType(str, Enum):
    """The first part of an event's name, as in ``job:state_change``."""

    JOB = "job"
    WORKER = "worker"
    QUEUE = "queue"


Types = frozenset[FrameType]
ALL_TYPES: Types = frozenset(FrameType)
ALLOWED_TYPES = ",".join(FrameType)
_TYPE_OF_PREFIX = {kind.value: kind for kind in FrameType}


def type_of(event: str) -> FrameType:
    """Return the type of a frame by its event's name."""
    return _TYPE_OF_PREFIX[event.partition(":")[0]]


def parse_types(texts: Sequence[str]) -> Types:
    """Return the types in comma-separated lists, all if there is none. Raises `ValueError` for another type."""
    return frozenset(FrameType(name) for text in texts for name in text.split(",")) if texts else ALL_TYPES
