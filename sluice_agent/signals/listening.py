"""Methods of Celery's that are listened to, for what no signal tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

_HEARD = "_sluice_agent"


def listen(owner: type, method: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `around` of the method in the method's place, where this Celery has it.

    It is done once: a second agent hears nothing twice.
    """
    original = getattr(owner, method, None)
    if original is not None and not hasattr(original, _HEARD):
        listening = wraps(original)(around(original))
        setattr(listening, _HEARD, True)
        setattr(owner, method, listening)
