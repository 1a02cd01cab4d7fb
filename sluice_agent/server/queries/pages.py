"""Lists that are short enough to be sorted whole, with pages that count from 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

_Item = TypeVar("_Item")


def sorted_by(items: Sequence[_Item], key: Callable[[_Item], Any], *, is_descending: bool) -> list[_Item]:
    """Return `items` sorted by `key`, those for which it is None last, in either direction."""
    known = [item for item in items if key(item) is not None]
    return [
        *sorted(known, key=key, reverse=is_descending),
        *(item for item in items if key(item) is None),
    ]


def page_of(items: Sequence[_Item], page: int, limit: int) -> tuple[Sequence[_Item], dict[str, int]]:
    """Return the items of a page, and the description of paging for the response."""
    total_pages = -(-len(items) // limit)
    start = (page - 1) * limit
    return items[start : start + limit], {
        "page": page, "limit": limit, "total": len(items), "totalPages": total_pages,
    }  # fmt: skip
