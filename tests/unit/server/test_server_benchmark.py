"""The benchmark of the server, in its smallest size, and what `make acceptance` demands of its figures."""

from __future__ import annotations

import pytest

from tests.acceptance.demands import CHECKS, DEMANDS
from tests.benchmarks import server_ingest, server_reads
from tests.support.process import ROOT


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


@pytest.mark.parametrize(("value", "is_met"), [(849, True), (850, True), (851, False)])
def test_a_figure_is_held_against_its_limit(value: float, is_met: bool) -> None:
    """The table would otherwise say yes to what was not reached."""
    demand = DEMANDS["sqlite size"]
    assert demand.text == "≤ 850 B an event"
    assert demand.is_met(value) is is_met
    assert not DEMANDS["sqlite rate"].is_met(19_999)
    assert DEMANDS["sqlite rate"].is_met(20_000)


def test_acceptance_names_tests_that_exist() -> None:
    """A test that was renamed would otherwise be missed only by who measures everything."""
    for node in CHECKS.values():
        path, _, test = node.partition("::")
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8")
