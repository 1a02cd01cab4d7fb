"""How much is measured. A larger size takes longer and has less noise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all parts."""

    pools: tuple[str, ...] = ("prefork", "solo")
    instances: int = 3
    """Of each variant, side by side."""
    rounds: int = 9
    warm_up: int = 500
    """Tasks of an instance before its first turn."""
    tasks: int = 1_000
    """In a turn of an instance."""
    calls: int = 700
    """Of `delay()`, in a turn of an instance."""
    instructed_tasks: int = 400
    """By which the two runs of a count of instructions differ."""
    imports: int = 15
    """Processes that import the agent."""
    event_tasks: int = 333_334
    """Tasks of three events each, which a monitor receives."""
    flower_tasks: int = 1_000_000
    """Tasks of three events each, which Flower and the server receive and show."""
    backlog: int = 1_000_000
    """Events that wait when the shipper starts."""
    served_backlog: int = 300_000
    """The same, before a server that stores them."""
    writers: tuple[int, ...] = (1, 4, 16, 64)
    written: int = 640_000
    """Events of all writers together."""
    waiting: int = 1_000_000_000
    """Bytes that wait in a full journal."""
    seconds: float = 60.0
    """Of each measurement of the server."""
    jobs: int = 1_000_000
    """In the database that the server reads."""


FULL = Sizes()
SMALL = Sizes(
    instances=2,
    rounds=2,
    warm_up=50,
    tasks=200,
    calls=100,
    instructed_tasks=100,
    imports=3,
    event_tasks=2_000,
    flower_tasks=5_000,
    backlog=100_000,
    served_backlog=10_000,
    written=64_000,
    waiting=60_000_000,
    seconds=4.0,
    jobs=5_000,
)
COMPARED = Sizes(event_tasks=60_000)
"""Of `--compare`, in which each turn of the sidecar is a new process."""
