"""A connection as people know it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NamedConnection:
    """A connection. `name` is None if clients sent events under its id and it was never named."""

    number: int
    id: str
    name: str | None

    @property
    def label(self) -> str:
        """Its name, or else the beginning of its id."""
        return self.name or self.id.partition("-")[0]
