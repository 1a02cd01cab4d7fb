"""The rows of `rollup` and `worker_rollup` that counts change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sluice_agent.server.record.measures import Count, Counts, Measure, WorkerCount
from sluice_agent.server.store.driver import Driver, RollupKey
from sluice_agent.server.store.memory import Memory
from sluice_agent.server.store.schema import ALL_NAMES, DAY, HOUR, MINUTE, LabelKind

_NO_QUEUE = 0


def put_counts(driver: Driver, memory: Memory, counts: Mapping[int, Counts]) -> None:
    """Add the counts of each connection to its minutes, hours and days."""
    jobs: Counter[tuple[int, Count]] = Counter()
    ends: Counter[tuple[int, WorkerCount]] = Counter()
    for connection, part in counts.items():
        for key, count in part.items():
            if isinstance(key, Count):
                jobs[connection, key] += count
            else:
                ends[connection, key] += count
    _put_rollups(driver, memory, jobs)
    _put_worker_rollups(driver, memory, ends)


def _put_rollups(driver: Driver, memory: Memory, counts: Mapping[tuple[int, Count], int]) -> None:
    names = memory.labels(LabelKind.NAME, {key.name for _, key in counts})
    queues = memory.labels(LabelKind.QUEUE, {key.queue for _, key in counts if key.queue is not None})
    rollups: Counter[RollupKey] = Counter()
    for (connection, key), count in counts.items():
        queue = _NO_QUEUE if key.queue is None else queues[key.queue]
        name, measure = names[key.name], int(key.measure)
        rollups[connection, MINUTE, key.minute, name, queue, measure, key.bucket] += count
        for length in (HOUR, DAY):
            start = key.minute // length * length
            rollups[connection, length, start, name, queue, measure, key.bucket] += count
            rollups[connection, length, start, ALL_NAMES, queue, measure, key.bucket] += count
    driver.add_rollups({key: count for key, count in sorted(rollups.items()) if count})
    driver.count_rollup_changes(sorted({(key[0], key[2]) for key in rollups if key[1] == HOUR}))


def _put_worker_rollups(driver: Driver, memory: Memory, counts: Mapping[tuple[int, WorkerCount], int]) -> None:
    workers = memory.labels(LabelKind.WORKER, {key.worker for _, key in counts})
    ends: dict[tuple[int, int, int], list[int]] = {}
    for (connection, key), count in counts.items():
        completed_failed = ends.setdefault((connection, key.minute, workers[key.worker]), [0, 0])
        completed_failed[key.measure is Measure.FAILED] += count
    driver.add_worker_rollups({key: (pair[0], pair[1]) for key, pair in sorted(ends.items()) if any(pair)})
