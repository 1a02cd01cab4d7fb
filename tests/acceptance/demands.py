"""What is demanded of the server, as data. The measurements are those of `tests.benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """A limit of one figure. `unit` follows the figure in the table; `digits` are those after its point."""

    subject: str
    least: float | None = None
    most: float | None = None
    unit: str = ""
    digits: int = 0

    @property
    def text(self) -> str:
        """The limit, as the table shows it."""
        return f"≥ {self.show(self.least)}" if self.least is not None else f"≤ {self.show(self.most or 0)}"

    def show(self, value: float) -> str:
        """Return `value` with the unit."""
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()

    def is_met(self, value: float) -> bool:
        """Return whether `value` is within the limit."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


DEMANDS = {
    "sqlite rate": Demand("SQLite, one client: rate", least=20_000, unit="events/s"),
    "sqlite steadiness": Demand("SQLite, one client: last 10 s to first", least=0.9, digits=2),
    "sqlite size": Demand("SQLite, one client: disk", most=850, unit="B an event"),
    "sqlite memory": Demand("SQLite, one client: memory", most=150, unit="MB"),
    "many rate": Demand("SQLite, 50 clients: rate, to that of one", least=1, digits=2),
    "many memory": Demand("SQLite, 50 clients: memory", most=150, unit="MB"),
    "many health": Demand("SQLite, 50 clients: slowest answer of /api/health", most=50, unit="ms"),
    "progress": Demand("progress of one job: CPU of the last, to the first", most=2, digits=2),
    "postgresql rate": Demand("PostgreSQL: rate", least=30_000, unit="events/s"),
    "postgresql size": Demand("PostgreSQL: disk", most=1_300, unit="B an event"),
    "postgresql memory": Demand("PostgreSQL: memory", most=150, unit="MB"),
    "list": Demand("p95 of lists", most=20, unit="ms", digits=1),
    "job": Demand("p95 of records", most=5, unit="ms", digits=1),
    "stream cpu": Demand("stream, 1,000 events/s: CPU", most=20, unit="% of a core", digits=1),
    "stream delay": Demand("stream, 1,000 events/s: p99 of the delay", most=400, unit="ms"),
    "stream delivery": Demand("stream, 1,000 events/s: delivered", least=100, unit="%", digits=1),
    "frozen gone": Demand("stream, 50 frozen readers: gone after", most=20, unit="s", digits=1),
    "frozen batch": Demand("stream, 50 frozen readers: slowest batch, to that without", most=2, digits=2),
}

CHECKS = {
    "killed while it writes": "tests/faults/test_server_crash.py::test_what_was_answered_survives_every_kill",
    "a full disk": "tests/faults/test_server_crash.py::test_a_full_disk_is_answered_with_503_and_loses_nothing",
    "a reader that is cut, a server that restarts": "tests/faults/test_stream_resume.py"
    "::test_a_subscriber_that_is_cut_gets_everything_once",
    "a reader that is cut, two servers on PostgreSQL": "tests/faults/test_stream_resume.py"
    "::test_a_subscriber_that_changes_between_servers_gets_everything_once",
    "two servers on PostgreSQL, eight writers": "tests/integration/test_servers_on_postgresql.py",
    "a bulk retry over kills": "tests/faults/test_bulk_actions.py",
    "jobs over kills: 2,000 runs, 20 workers, two engines": "tests/faults/test_jobs_kills.py",
    "webhooks over kills: 10,000 runs, receivers that fail": "tests/faults/test_jobs_webhooks.py",
    "random histories, every list": "tests/integration/test_random_lists.py",
    "every way to a page": "tests/unit/server/queries/test_lists.py",
    "each page, in all windows": "tests/pages/test_accessible.py",
    "any request to the API": "tests/contract/test_openapi.py",
    "any request to the jobs API": "tests/contract/test_jobs_openapi.py",
}
"""Tests that must pass, with ``FAULTS=long`` and ``EXAMPLES=full`` in their full sizes."""
