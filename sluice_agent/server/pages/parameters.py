"""Parameters that several pages have, and the address of the view that a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from fastapi import Query

from sluice_agent.server.queries.window import TimeRange

Label = Annotated[str, Query(min_length=1, max_length=1_024, pattern=r"^[^\x00]*$")]
"""The name of a task or a queue, or the id of a worker."""


class Shown(NamedTuple):
    """The view that a page shows: its path, its window (None: it has none), and its other parameters."""

    path: str
    parameters: Mapping[str, str]
    time_range: TimeRange | None = None

    @property
    def all_parameters(self) -> dict[str, str]:
        """All parameters of the view."""
        window = {} if self.time_range is None else {"timeRange": self.time_range.value}
        return {**self.parameters, **window}

    @property
    def choices(self) -> list[tuple[str, dict[str, str], bool]]:
        """The windows to choose from: the text, the parameters of the page, and whether it is shown."""
        return [
            (text, {**self.parameters, "timeRange": time_range.value}, time_range is self.time_range)
            for time_range, text in _CHOICES.items()
        ]

    @property
    def text(self) -> str:
        """The window in words."""
        return "" if self.time_range is None else f"last {_TEXTS[self.time_range]}"

    def with_sort(self, by: str, order: str) -> dict[str, str]:
        """Return the parameters of the view in another order, from its beginning."""
        return {**self.all_parameters, "sortBy": by, "sortOrder": order}

    def with_page(self, page: int) -> dict[str, str]:
        """Return the parameters of another page of the view."""
        return {**self.all_parameters, "page": str(page)}


_CHOICES = {TimeRange.HOUR: "1 hour", TimeRange.DAY: "24 hours", TimeRange.WEEK: "7 days"}
_TEXTS = {TimeRange.HOUR: "hour", TimeRange.DAY: "24 hours", TimeRange.WEEK: "7 days"}
