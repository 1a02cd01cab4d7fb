"""The address of a list of runs: its filters, from its parameters and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sluice_agent.jobs.runs.search import RunFilter
from sluice_agent.jobs.status import Status
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.render import url_of
from sluice_agent.server.timestamps import moment_of, timestamp_of

_LONGEST = 512
_NAMES = {
    "job_id": "job_id",
    "batch_id": "batch_id",
    "error_class": "error_class",
    "search": "text",
}
"""Parameters that are texts, and the fields of the filter."""

_TIMES = {"from": "created_from", "to": "created_before"}


@dataclass(frozen=True, slots=True)
class RunsAddress:
    """The view that an address stands for: a list at `path`, and the parameters beside its filter."""

    path: str
    wanted: RunFilter
    common: Mapping[str, str]

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the list, from its beginning."""
        wanted = self.wanted
        states = [] if self.path == "/dead-letters" else [("status", status.value) for status in wanted.statuses]
        texts = [(name, getattr(wanted, field)) for name, field in _NAMES.items()]
        times = [(name, getattr(wanted, field)) for name, field in _TIMES.items()]
        return [
            *states,
            *((name, text) for name, text in texts if text is not None),
            *((name, timestamp_of(moment)) for name, moment in times if moment is not None),
            *self.common.items(),
        ]

    def href(self, **more: str) -> str:
        """Return the address of the list, with further parameters."""
        values: dict[str, list[str]] = {}
        for name, value in [*self.parameters(), *more.items()]:
            values.setdefault(name, []).append(value)
        return url_of(self.path, values)

    def with_filter(self, **changes: Any) -> RunsAddress:
        """Return the list with another filter."""
        return replace(self, wanted=replace(self.wanted, **changes))

    @property
    def is_filtered(self) -> bool:
        """True if the list leaves anything out."""
        statuses: Sequence[Status] = self.wanted.statuses if self.path == "/dead-letters" else ()
        return self.wanted != RunFilter(self.wanted.project, statuses=statuses)

    def without_filters(self) -> RunsAddress:
        """Return the list of all."""
        statuses: Sequence[Status] = self.wanted.statuses if self.path == "/dead-letters" else ()
        return replace(self, wanted=RunFilter(self.wanted.project, statuses=statuses))


def filter_of(project: str, pairs: Iterable[tuple[str, str]]) -> RunFilter:
    """Return the filter in the parameters of an address; what is empty does not filter.

    Raises `RefusedError` (400), with a message for each parameter that is not valid.
    """
    given = [(name, value) for name, value in pairs if value.strip()]
    wrong: dict[str, str] = {}
    statuses: list[Status] = []
    values: dict[str, Any] = {}
    for name, value in given:
        if name == "status":
            try:
                statuses.append(Status(value))
            except ValueError:
                wrong[name] = f"must be one of {', '.join(status.value for status in Status)}"
        elif name in _NAMES:
            if len(value) > _LONGEST or "\0" in value:
                wrong[name] = f"has more than {_LONGEST} characters, or a NUL"
            values[_NAMES[name]] = value.strip()
        elif name in _TIMES:
            moment = moment_of(value)
            if moment is None or not 0 <= moment < 2**62:
                wrong[name] = "must be a date, or a date and time such as 2026-02-27T10:29:55Z"
            values[_TIMES[name]] = moment
    if wrong:
        raise RefusedError(400, "The filter is not valid.", wrong)
    return RunFilter(project, statuses=tuple(dict.fromkeys(statuses)), **values)
