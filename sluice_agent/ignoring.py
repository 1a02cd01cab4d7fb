"""Which tasks a user does not want to be told of, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache


def ignoring(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a task's name matches one of `globs`."""
    if not globs:
        return frozenset[str]().__contains__
    matches = re.compile("|".join(translate(glob) for glob in globs)).match
    return lru_cache(maxsize=4096)(lambda name: matches(name) is not None)
