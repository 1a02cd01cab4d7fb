"""The vendor's documents as they are published, and what their tables say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_DIRECTORY = Path(__file__).parent
_HEADER = "Field | Type |"
_LIMIT = re.compile(r"Max ([0-9,]+) chars")
_ENUM = re.compile(r"(?:One of|Unified state:) ([a-z, ]+)\.")
_EXAMPLES = re.compile(r"\(e\.g\., ([a-z_, ]+)\)")


@dataclass(frozen=True, slots=True)
class Field:
    """A row of a table: a field, its JSON type, and what the description limits."""

    name: str
    type: str
    is_required: bool
    description: str

    @property
    def limit(self) -> int | None:
        """The greatest number of characters."""
        match = _LIMIT.search(self.description)
        return int(match[1].replace(",", "")) if match else None

    @property
    def values(self) -> list[str]:
        """The only values, empty if any is allowed."""
        match = _ENUM.search(self.description)
        return match[1].split(", ") if match else []

    @property
    def examples(self) -> list[str]:
        """Values that are given by way of example."""
        match = _EXAMPLES.search(self.description)
        return match[1].split(", ") if match else []

    @property
    def is_time(self) -> bool:
        """True for a date and time."""
        return "ISO 8601" in self.description


def tables(document: str) -> list[list[Field]]:
    """Return the tables of fields in a document, in their order."""
    found: list[list[Field]] = []
    for line in (_DIRECTORY / f"{document}.txt").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if _HEADER in line:
            found.append([])
        elif found and len(cells) >= 3 and not cells[0].startswith("-"):
            required = cells[2] == "Yes" if len(cells) == 4 else True
            found[-1].append(Field(cells[0], cells[1], required, cells[-1]))
    return found
