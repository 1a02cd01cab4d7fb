"""Values as texts, cut where together they would be too long for a page. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Value(NamedTuple):
    """A value as text. `cut` is the number of characters that are not shown."""

    label: str
    text: str
    cut: int


def values_within(pairs: Sequence[tuple[str, Any]], characters: int) -> list[Value]:
    """Return labelled values as texts of at most so many characters together. The longest are cut, to one length."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2) for _, value in pairs]
    most = _most_of_each([len(text) for text in texts], characters)
    return [Value(label, text[:most], max(0, len(text) - most)) for (label, _), text in zip(pairs, texts, strict=True)]


def ends_of(rows: Sequence[Any], most: int) -> list[Any]:
    """Return `rows`, or the first and the last of them if there are more than `most`."""
    return list(rows) if len(rows) <= most else [*rows[: most // 2], *rows[-(most - most // 2) :]]


def _most_of_each(lengths: Sequence[int], room: int) -> int:
    """Return the length to which all are cut, so that their sum is at most `room`."""
    for index, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - index)
        if length > share:
            return share
        room -= length
    return max(lengths, default=0)
