"""The benchmark of the server, in its smallest size."""

from __future__ import annotations

from tests.benchmarks import server_ingest, server_reads


def test_the_benchmark_of_ingest_runs() -> None:
    """A change would otherwise break unnoticed what shows that the server is as fast as promised."""
    cost = server_ingest.measure(clients=2, seconds=1)
    assert cost.rate > 0
    assert cost.memory > 0
    assert 100 < cost.size < 3_000
    assert "events/s" in str(cost)


def test_progress_costs_the_same_at_last() -> None:
    """One long task with a report a second would otherwise slow down everything that comes after it."""
    first, last = server_ingest.measure_progress(events=1_000)
    assert last < 3 * first  # twice on a quiet machine


def test_reads_are_measured() -> None:
    """The table of the benchmark would otherwise lack what its readers came for."""
    rows = dict(server_reads.rows(jobs=500, repeats=1, filters={"states failed": {"state": "failed"}}))
    assert {name.partition(": ")[2] for name in rows} >= {
        "states failed",
        "a job",
        "queues, 24h",
        "tasks, 1h",
        "workers",
    }
    assert all("p95" in text for text in rows.values())
