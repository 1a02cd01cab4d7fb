"""A memory that does not grow."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """The values that were put last, by key; the one put longest ago is forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Not a dict: to find its oldest key it steps over every one that was removed before.
        self._values: OrderedDict[str, _Value] = OrderedDict()

    def get(self, key: str, default: _Value) -> _Value:
        """The value of `key`, or `default` where it was never put or is forgotten."""
        return self._values.get(key, default)

    def put(self, key: str, value: _Value) -> None:
        """Remember `value`."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
