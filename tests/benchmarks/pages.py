"""The pages of the server with many jobs: how soon a row shows what has changed, and what each page takes."""

from __future__ import annotations

import math
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from tests.benchmarks import page_times, row_delay, run_rows
from tests.benchmarks.filled_server import end_of_data, fill_database, filled_server
from tests.benchmarks.page import Section
from tests.benchmarks.page_times import MOST_KILOBYTES, MOST_MILLISECONDS, PageTimes
from tests.benchmarks.row_delay import LOADS, Delays, Load
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress

_JOB_SECONDS, _PAGES_SECONDS, _START_SECONDS = 0.0005, 60.0, 15.0


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure each page, then the rows."""
    times, delays = [], []
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "pages.db"
        fill_database(database, sizes.jobs)
        run_rows.fill(database, sizes.jobs, end_of_data())
        addresses = page_times.page_addresses(database) | page_times.addresses_of_runs(database)
        with filled_server(database) as server:
            for name, each in page_times.measurements(server, addresses):
                times.append(_times_row(name, each))
                progress("  ".join(times[-1]))
        behind = datetime.now(timezone.utc) - end_of_data()
        with filled_server(database, behind) as server:
            for load in LOADS:
                delays.append(_delays_row(load, row_delay.measure(load, sizes.seconds, server, behind)))
                progress("  ".join(delays[-1]))
    return Section(
        "The pages",
        [
            (
                f"`sluice-agent serve` with {sizes.jobs:,} jobs, and as many runs of the jobs API, in SQLite, its "
                f"clients on the same machine. The first table has, for {sizes.seconds:g} s each, the time from the "
                "answer to an event's request to the frame in which Chromium paints the row that shows it, on the "
                "page of all jobs. An event now and then is one each second; 100 events/s come in batches of ten. A "
                "row that was there before the answer counts "
                "as 0 ms."
            ),
            (
                "The second table has the wall time of requests as a client sees it, one after the other: the first "
                "one, and the median and the 95th percentile of twenty after it, with the server's CPU for one; "
                "and the size of the compressed page. "
                f"At most {MOST_MILLISECONDS:g} ms (p95) and {MOST_KILOBYTES:g} kB are demanded."
            ),
        ],
        [
            Table(["from the answer to the row", "events", "shown", "p50 ms", "p95 ms", "demanded", "met"], delays),
            Table(["page", "first, ms", "p50 ms", "p95 ms", "CPU ms", "kB", "met"], times),
        ],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return sizes.jobs * _JOB_SECONDS + _PAGES_SECONDS + len(LOADS) * (_START_SECONDS + sizes.seconds)


def _times_row(name: str, times: PageTimes) -> list[str]:
    figures = [f"{value:.1f}" for value in (times.first, times.p50, times.p95, times.cpu, times.size / 1_000)]
    return [name, *figures, _yes_or_no(times.meets_demand)]


def _delays_row(load: Load, delays: Delays) -> list[str]:
    figures = [f"{delays.sent:,}", f"{delays.shown:,}", _milliseconds(delays.p50), _milliseconds(delays.p95)]
    return [load.name, *figures, f"p95 ≤ {load.most:g}", _yes_or_no(delays.p95 <= load.most)]


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def _yes_or_no(is_met: bool) -> str:
    return "yes" if is_met else "no"
