"""Replacement of methods of Celery and kombu, where no signal reports what the agent needs: see docs/patches.md.

Several are private: another version may lack them, or name their arguments otherwise. Such a method stays as it is, and
the agent reports less. A replacement passes all its arguments on to the original.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import getattr_static, iscoroutinefunction
from typing import Any

from sluice_agent.missing_patches import MISSING_PATCHES, MissingPatches

_PATCHED = "_sluice_agent"

_replaced: list[tuple[type, str, Any, Any]] = []
"""The replaced methods: class, name, replacement, and the class's own method before; None: it was inherited."""


def patch_method(
    owner: type,
    method: str,
    around: Callable[[Callable[..., Any]], Callable[..., Any]],
    *,
    without: str,
    is_new: bool = False,
    missing_patches: MissingPatches = MISSING_PATCHES,
) -> bool:
    """Replace `method` of `owner` by `around(original)`, and return whether it is replaced. Never raise.

    A method is replaced once: with a second agent nothing is reported twice. `without` is the consequence for the user
    where it can't be replaced; `missing_patches` records it. A method that `is_new` is absent from some supported
    versions. `around` raises if the original lacks an argument that it needs.
    """
    original = getattr_static(owner, method, None)
    is_replaced = hasattr(original, _PATCHED)
    if is_replaced or (original is None and is_new):
        return is_replaced
    if _is_plain(original):
        with suppress(Exception):  # the host must start in any case
            patched = wraps(original)(around(original))
            setattr(patched, _PATCHED, True)
            _replaced.append((owner, method, patched, vars(owner).get(method)))
            setattr(owner, method, patched)
            is_replaced = True
    if not is_replaced:
        missing_patches.add(f"{owner.__name__}.{method}", without)
    return is_replaced


def restore_methods() -> None:
    """Put the original methods back, but where another library has replaced ours since."""
    while _replaced:
        owner, method, patched, original = _replaced.pop()
        if vars(owner).get(method) is not patched:
            continue
        if original is None:
            delattr(owner, method)
        else:
            setattr(owner, method, original)


def _is_plain(method: Any) -> bool:
    """Return whether a function can replace `method`: it is called with the object, and is no coroutine."""
    return (
        callable(method)
        and hasattr(type(method), "__get__")
        and not isinstance(method, (staticmethod, classmethod, type))
        and not iscoroutinefunction(method)
    )
