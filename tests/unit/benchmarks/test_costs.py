"""What the README says of costs is what `make bench` has measured last."""

from __future__ import annotations

import pytest

from tests.benchmarks.costs import BEGIN, END, PAGE, README, with_costs
from tests.benchmarks.tables import Table

TASKS = Table(
    ["µs of CPU a task", "minimum", "added", "median", "added", "ratio of minima"],
    [
        ["prefork, bare", "900.0", "", "950.0", "", ""],
        ["prefork, signals", "910.0", "+10.0 ± 4.0", "960.0", "+10.0 ± 4.0", "×1.011"],
        ["prefork, sluice-agent", "990.0", "+90.0 ± 5.0", "1040.0", "+90.0 ± 6.0", "×1.100"],
        ["prefork, Sentry", "1900.0", "+1000.0 ± 9.0", "2000.0", "+1050.0 ± 9.0", "×2.111"],
    ],
)
REPORTED = Table(["reported", "queued"], [["prefork, sluice-agent", "100%"]])
DELAY = Table(
    ["µs of a call", "p50, minimum", "added", "median", "added", "p99, minimum", "added", "median", "added"],
    [
        ["bare", "250", "", "260", "", "400", "", "410", ""],
        ["sluice-agent", "265", "+15.0 ± 2.0", "276", "+16.0 ± 3.0", "420", "+20.0 ± 9.0", "430", "+20.0 ± 9.0"],
    ],
)
INSTRUCTIONS = Table(
    ["a task", "instructions", "more than bare", "misses of I1", "more than bare"],
    [["bare", "4,000,000", "+0", "9,000", "+0"], ["sluice-agent", "4,200,000", "+200,000", "9,500", "+500"]],
)
IMPORTS = Table(
    ["step", "minimum", "median", "maximum", "median with SLUICE_SHIP=never"],
    [
        ["`import`", "30.0", "31.0", "32.0", "30.5"],
        ["`install()`", "5", "6", "7", "3"],
        ["modules", "80", "80", "80", "70"],
        ["MB", "4", "5", "6", "2"],
    ],
)
EMPTY = f"# A project\n\n{BEGIN}old\n{END}\nmore\n"


def page(**tables: list[Table]) -> str:
    return "".join(
        f"<!-- part {part} -->\n## A part\n\n{chr(10).join(f'{table.markdown()}{chr(10)}' for table in each)}\n"
        for part, each in tables.items()
    )


def test_the_readme_has_the_figures_of_the_page() -> None:
    """A user would decide by figures that nobody has measured, or that an older version had."""
    readme = README.read_text(encoding="utf-8")
    assert with_costs(readme, PAGE.read_text(encoding="utf-8")) == readme, "write it: python -m tests.benchmarks.costs"


def test_each_part_that_was_measured_has_its_figures() -> None:
    """The wrong column of a table would make the agent cheaper, or dearer, than it is."""
    text = with_costs(
        EMPTY, page(tasks=[TASKS, REPORTED], instructions=[INSTRUCTIONS], delay=[DELAY], imports=[IMPORTS])
    )
    assert (
        "\n| Celery alone | 900.0 |\n| **sluice-agent** | +90.0 ± 5.0 |\n| Sentry | +1000.0 ± 9.0 |\n\n- `delay()`"
        in text
    )
    assert "takes 250 µs, and +15.0 ± 2.0 µs with the agent; the 99th percentile is 400 µs, and +20.0 ± 9.0 µs." in text
    assert "a task has 5.0 % more: 200 thousand beside 4,000 thousand.\n- At the start" in text
    assert "takes 31.0 ms and `install()` 6, and both bring 80 modules and 5 MB. Where another" in text
    assert "`install()` takes 3 ms, and both bring 70 modules and 2 MB.\n<!-- end -->\n\nmore\n" in text


def test_a_part_that_was_not_measured_has_no_line() -> None:
    """A README with a gap, or with a figure of another day's code, is worse than one without that line."""
    assert with_costs(EMPTY, "# Benchmarks\n") == f"# A project\n\n{BEGIN}{END}\nmore\n"
    assert "delay" not in with_costs(EMPTY, page(tasks=[TASKS, REPORTED]))


def test_a_table_that_has_changed_is_no_empty_line() -> None:
    """A column with another name would take the costs out of the README, and nobody would notice."""
    with pytest.raises(ValueError, match="no table of the page begins with µs of a call"):
        with_costs(EMPTY, page(delay=[TASKS]))
