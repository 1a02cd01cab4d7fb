"""Methods of Celery's and kombu's that are listened to, for what no signal reports.

Several are private: another version may be without them, or name their arguments otherwise. Such a method stays as it
is, and the agent reports less. What takes a method's place passes on whatever it is called with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import getattr_static, iscoroutinefunction
from typing import Any

from sluice_agent.shortfalls import SHORTFALLS, Shortfalls

_PATCHED = "_sluice_agent"


def patch_method(
    owner: type,
    method: str,
    around: Callable[[Callable[..., Any]], Callable[..., Any]],
    *,
    without: str,
    is_new: bool = False,
    shortfalls: Shortfalls = SHORTFALLS,
) -> bool:
    """Put `around` of the method in the method's place, where this Celery has it, and return whether. Never raises.

    It is done once: with a second agent nothing is reported twice. `without` is what follows for the user where it
    can't be done, which `shortfalls` records; a method that `is_new` is absent from versions that are supported.
    `around` raises where it does not find the arguments that it needs.
    """
    original = getattr_static(owner, method, None)
    is_replaced = hasattr(original, _PATCHED)
    if is_replaced or (original is None and is_new):
        return is_replaced
    if _is_plain(original):
        with suppress(Exception):  # the host starts all the same
            patched = wraps(original)(around(original))
            setattr(patched, _PATCHED, True)
            setattr(owner, method, patched)
            is_replaced = True
    if not is_replaced:
        shortfalls.add(f"{owner.__name__}.{method}", without)
    return is_replaced


def _is_plain(method: Any) -> bool:
    """Whether a function of ours can take its place in the class: it is called with the object, and at once."""
    return (
        callable(method)
        and hasattr(type(method), "__get__")
        and not isinstance(method, (staticmethod, classmethod, type))
        and not iscoroutinefunction(method)
    )
