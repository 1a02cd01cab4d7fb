"""How fast this machine is now: two fixed pieces of work, so that figures of different hours can be compared.

A shared machine changes its speed by a factor of two within an hour. Neither piece waits for a disk or a network. Their
minima are the speed of a processor, and medians above them are the time for which others had it.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_TURNS = 15
_ITERATIONS = 20_000
_INSERTS = 1_000


@dataclass(frozen=True, slots=True)
class Speed:
    """The wall times of the turns of both pieces of work, in microseconds."""

    loop: Sequence[float]
    """Of a loop in Python: 20,000 times an addition, a division and a look-up."""
    inserts: Sequence[float]
    """Of 1,000 inserts into a table with an index, in one transaction of an SQLite database in memory."""

    def __add__(self, other: Speed) -> Speed:
        """Return all turns of both, such as those before a measurement and those after it."""
        return Speed([*self.loop, *other.loop], [*self.inserts, *other.inserts])

    def __str__(self) -> str:
        return f"Python loop {_min_and_median(self.loop)}, SQLite inserts {_min_and_median(self.inserts)}"

    def ratios(self, rate: float) -> tuple[float, float]:
        """Return how many events a rate of events a second is in the least time of the loop, and of the inserts."""
        return rate * min(self.loop) / 1e6, rate * min(self.inserts) / 1e6


def measure(turns: int = _TURNS) -> Speed:
    """Do both pieces of work, in turns."""
    both = [(_timed(_loop), _timed(_insert)) for _ in range(turns)]
    return Speed([loop for loop, _ in both], [inserts for _, inserts in both])


def row(speed: Speed, rate: float | None = None) -> tuple[str, str]:
    """Return a row below that of a measurement: the speed of the machine, and the `rate` of events as a ratio to it."""
    text = str(speed)
    if rate is not None:
        text += "; {:.1f} events a loop, {:.1f} in the time of the inserts".format(*speed.ratios(rate))
    return "… the machine before and after it", text


def _min_and_median(times: Sequence[float]) -> str:
    return f"min {min(times):,.0f} median {statistics.median(times):,.0f} µs"


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def _loop() -> None:
    squares = {number: number * number for number in range(64)}
    total = 0
    for number in range(_ITERATIONS):
        total += squares[number % 64] // 3


def _insert() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE job (number INTEGER PRIMARY KEY, name TEXT, created INTEGER)")
    connection.execute("CREATE INDEX job_by_name ON job (name, created)")
    with connection:
        for number in range(_INSERTS):
            connection.execute("INSERT INTO job VALUES (?, ?, ?)", (number, f"task-{number % 40}", number))
    connection.close()
