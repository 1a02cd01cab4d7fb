"""Lists of ids in statements: of few lengths, as the database prepares each length by itself."""

from __future__ import annotations

from collections.abc import Collection


def id_list(ids: Collection[str]) -> list[str]:
    """Return ids in their order, the last one repeated up to a power of two."""
    ordered = sorted(ids)
    length = 1 << max(len(ordered) - 1, 0).bit_length()
    return ordered + ordered[-1:] * (length - len(ordered))
