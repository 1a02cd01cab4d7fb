"""A memory that does not grow."""

from __future__ import annotations

from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """The values that were put last, by key; the one put longest ago is forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[str, _Value] = {}

    def get(self, key: str, default: _Value) -> _Value:
        """The value of `key`, or `default` where it was never put or is forgotten."""
        return self._values.get(key, default)

    def put(self, key: str, value: _Value) -> None:
        """Remember `value`."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]
