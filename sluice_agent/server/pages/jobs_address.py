"""The addresses of lists of jobs: an address is the whole view, and links to other views are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.sorting import SortBy, SortOrder

NEWEST = Order(SortBy.CREATED_AT, SortOrder.DESC)
"""The order of a list whose address names none."""


class Address(NamedTuple):
    """The view that an address stands for; its methods return other views.

    `connection` is the parameter that names the connection, if that is needed.
    """

    wanted: JobFilter
    order: Order
    connection: Sequence[tuple[str, str]]

    def parameters(self, *, cursor: str | None = None) -> list[tuple[str, str]]:
        """Return the parameters of the same list, at `cursor`."""
        is_default = self.order == NEWEST
        sorting = [] if is_default else [("sortBy", self.order.by.value), ("sortOrder", self.order.direction.value)]
        filters = [pair for pair in self.wanted.to_parameters() if pair[0] != "connectionId"]
        return [*filters, *sorting, *self.connection, *([("cursor", cursor)] if cursor else [])]

    def href(self, *, cursor: str | None = None) -> str:
        """Return the address of the same list, at `cursor`."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in self.parameters(cursor=cursor))
        return f"/jobs?{query}" if query else "/jobs"

    def with_filter(self, wanted: JobFilter) -> Address:
        """Return the list with another filter."""
        return self._replace(wanted=wanted)

    def with_order(self, by: SortBy, direction: SortOrder) -> Address:
        """Return the list in another order."""
        return self._replace(order=Order(by, direction))
