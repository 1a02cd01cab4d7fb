"""The parts of `make bench`, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.benchmarks import (
    backlog,
    beside_flower,
    capture_cost,
    delay_latency,
    event_cost,
    import_cost,
    instructions,
    jobs,
    pages,
    server,
    task_cost,
)
from tests.benchmarks.page import Section
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workers import Progress


class Part(NamedTuple):
    """What measures a section, and what estimates how many seconds that takes."""

    measure: Callable[[Sizes, Progress], Section]
    seconds: Callable[[Sizes], float]


PARTS = {
    "tasks": Part(task_cost.measure, task_cost.seconds),
    "instructions": Part(instructions.measure, instructions.seconds),
    "delay": Part(delay_latency.measure, delay_latency.seconds),
    "imports": Part(import_cost.measure, import_cost.seconds),
    "steps": Part(capture_cost.measure, capture_cost.seconds),
    "events": Part(event_cost.measure, event_cost.seconds),
    "backlog": Part(backlog.measure, backlog.seconds),
    "server": Part(server.measure, server.seconds),
    "jobs": Part(jobs.measure, jobs.seconds),
    "pages": Part(pages.measure, pages.seconds),
    "flower": Part(beside_flower.measure, beside_flower.seconds),
}
