"""Names that match shell-style patterns, as `SLUICE_IGNORE_TASKS` and `ACKLY_TASKS` hold them."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache


@lru_cache(maxsize=64)
def matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Return whether a name matches one of `globs`, as a function that remembers its last 4,096 answers."""
    if not globs:
        return frozenset[str]().__contains__
    matches = re.compile("|".join(translate(glob) for glob in globs)).match
    return lru_cache(maxsize=4096)(lambda name: matches(name) is not None)
