"""Match names against shell-style patterns, as in `SLUICE_IGNORE_TASKS` and `ACKLY_TASKS`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache


@lru_cache(maxsize=64)
def matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a function that returns whether a name matches one of `globs`; it caches its last 4,096 results."""
    if not globs:
        return frozenset[str]().__contains__
    matches = re.compile("|".join(translate(glob) for glob in globs)).match
    return lru_cache(maxsize=4096)(lambda name: matches(name) is not None)
