"""Requests of workers, made together: of several for one run, each sees what the one before has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


def in_turns(
    requests: Sequence[tuple[str, _Request]], make: Callable[[Mapping[str, _Request]], Mapping[str, _Result]]
) -> list[_Result | None]:
    """Call `make` with requests by their runs until all are made, and return the results, None where it has none."""
    results: list[_Result | None] = [None] * len(requests)
    remaining = list(enumerate(requests))
    while remaining:
        turn: dict[str, int] = {}
        later = []
        for position, (run_id, request) in remaining:
            if run_id in turn:
                later.append((position, (run_id, request)))
            else:
                turn[run_id] = position
        made = make({run_id: requests[position][1] for run_id, position in turn.items()})
        for run_id, position in turn.items():
            results[position] = made.get(run_id)
        remaining = later
    return results
