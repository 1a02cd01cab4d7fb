"""What an endpoint's answer means: the class of an error, whether it is retried, and how an attempt ends. Pure."""

from __future__ import annotations

from enum import Enum


class ErrorClass(str, Enum):
    """The classes of errors."""

    AUTH = "auth"
    CLIENT = "client"
    """The request is refused for good; also an address that may not be requested."""
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    TRANSIENT = "transient"
    """No answer, or one that asks to repeat the request."""
    TIMEOUT = "timeout"
    """The deadline of the attempt has passed."""
    UNKNOWN = "unknown"


class Ending(str, Enum):
    """What follows an attempt, as the run's next status."""

    COMPLETED = "completed"
    RETRIED = "queued"
    DEAD_LETTER = "dead_letter"
    TIMED_OUT = "timed_out"


FALLBACK = frozenset((ErrorClass.RATE_LIMITED, ErrorClass.SERVER, ErrorClass.TRANSIENT))
"""The classes after which the fallback is requested, within the same attempt."""

_FINAL = frozenset((ErrorClass.AUTH, ErrorClass.CLIENT))
_CLASSES = {
    401: ErrorClass.AUTH,
    403: ErrorClass.AUTH,
    408: ErrorClass.TRANSIENT,
    425: ErrorClass.TRANSIENT,
    429: ErrorClass.RATE_LIMITED,
}


def classify(status: int) -> ErrorClass | None:
    """Return the class of an answer's status; None for a success."""
    if 200 <= status < 300:
        return None
    if 400 <= status < 500:
        return _CLASSES.get(status, ErrorClass.CLIENT)
    return ErrorClass.SERVER if status >= 500 else ErrorClass.UNKNOWN


def ending(error_class: ErrorClass | None, attempt: int, max_attempts: int, *, ends_run: bool = False) -> Ending:
    """Return what follows attempt number `attempt`, from 1. `ends_run`: the endpoint forbids another one."""
    if error_class is None:
        return Ending.COMPLETED
    if error_class not in _FINAL and not ends_run and attempt < max_attempts:
        return Ending.RETRIED
    return Ending.TIMED_OUT if error_class is ErrorClass.TIMEOUT else Ending.DEAD_LETTER
