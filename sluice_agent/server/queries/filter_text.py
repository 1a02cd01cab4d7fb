"""A filter of jobs in words, such as ``failed send_email of today``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.timestamps import to_datetime

_DAY = 86_400_000_000  # microseconds
_PROBLEMS = {
    JobProblem.SLOW: "that are slow",
    JobProblem.LOST: "that are lost",
    JobProblem.EXPIRED: "that are expired",
    JobProblem.OVERDUE: "that are overdue",
}


def filter_text(wanted: JobFilter, now: int) -> str:
    """Return which jobs `wanted` selects, to follow a number or to stand alone. `now` is microseconds since 1970.

    A connection is not named: a page is about one.
    """
    return " ".join(_parts(wanted, now)) if wanted != JobFilter(connection_id=wanted.connection_id) else "all jobs"


def _parts(wanted: JobFilter, now: int) -> Iterator[str]:
    if wanted.states:
        yield _either([state.value for state in wanted.states])
    if wanted.framework is not None and not wanted.names:
        yield wanted.framework.value
    yield _either(wanted.names) if wanted.names else "jobs"
    if wanted.framework is not None and wanted.names:
        yield f"of {wanted.framework.value}"
    if wanted.problem is not None:
        yield _PROBLEMS[wanted.problem]
    for preposition, values in (
        ("in queue", wanted.queues),
        ("on worker", wanted.workers),
        ("with error", wanted.error_classes),
        ("raised at", wanted.error_locations),
    ):
        if values:
            yield f"{preposition} {_either(values)}"
    if wanted.group_id is not None:
        yield f"of group {wanted.group_id}"
    if wanted.root_id is not None:
        yield f"of canvas {wanted.root_id}"
    if wanted.search is not None:
        yield f'that match "{wanted.search}"'
    yield from _creation(wanted.created_from, wanted.created_to, now)


def _creation(start: int | None, end: int | None, now: int) -> Iterator[str]:
    today = now - now % _DAY
    if start == today and end in (None, today + _DAY):
        yield "of today"
    elif start is not None and start % _DAY == 0 and end == start + _DAY:
        yield f"of {to_datetime(start):%Y-%m-%d}"
    elif start is not None and end is not None:
        yield f"created from {_time(start)} to {_time(end)} UTC"
    elif start is not None:
        yield f"created since {_time(start)} UTC"
    elif end is not None:
        yield f"created before {_time(end)} UTC"


def _time(moment: int) -> str:
    """Return a time as exactly as it is given, and no more."""
    time = to_datetime(moment)
    if moment % 1_000_000:
        return time.replace(tzinfo=None).isoformat(" ")
    return f"{time:%Y-%m-%d %H:%M:%S}" if moment % 60_000_000 else f"{time:%Y-%m-%d %H:%M}"


def _either(values: Sequence[str]) -> str:
    return " or ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
