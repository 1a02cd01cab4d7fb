"""A table, as text for the terminal and as Markdown for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a header. The first column is a name, and so left-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    has_numbers: bool = True
    """Whether the other columns are right-aligned."""

    def text(self) -> str:
        """Return lines with aligned columns."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index == 0 or not self.has_numbers else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """Return a table of GitHub's Markdown."""
        rule = ["---", *["---:" if self.has_numbers else "---"] * (len(self.header) - 1)]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.header, rule, *self.rows))
