"""The page of benchmarks: each section with its command, and nothing that belongs to one machine only."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.benchmarks import backlog, flower
from tests.benchmarks.page import INTRODUCTION, Circumstances, Section, circumstances, write
from tests.benchmarks.parts import PARTS
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.sizes import FULL, SMALL
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import ALL, PEERS
from tests.support.process import ROOT

MEASURED = Circumstances(
    'make bench ARGS="--parts delay"',
    True,
    "abc1234",
    "2 × a CPU, 4 GB, Linux 6",
    0.1,
    datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc),
)
TABLE = Table(["µs", "p50"], [["bare", "250"], ["sluice-agent", "265"]])


def page(directory: Path, *parts: tuple[str, Section]) -> str:
    path = directory / "benchmarks.md"
    for name, section in parts:
        write(path, name, section, MEASURED, list(PARTS))
    return path.read_text(encoding="utf-8")


def test_a_section_has_its_command_machine_versions_and_date(tmp_path: Path) -> None:
    """A figure that nobody can measure again, or on an unknown machine, convinces nobody."""
    text = page(tmp_path, ("delay", Section("Latency", ["Of `delay()`."], [TABLE])))
    for expected in ('make bench ARGS="--parts delay"', "2026-11-30 12:00 UTC", "abc1234", "a CPU", "celery 5", "0.1"):
        assert expected in text.partition("## Latency")[2]
    assert "| sluice-agent | 265 |" in text


def test_a_part_replaces_only_its_section(tmp_path: Path) -> None:
    """The full size takes hours: who measures one part again must not lose the others, nor their order."""
    old, new = Section("Latency", ["Old."]), Section("Latency", ["New."])
    text = page(tmp_path, ("server", Section("The server", ["Kept."])), ("delay", old), ("delay", new))
    assert "Old." not in text
    assert text.index("New.") < text.index("Kept.")
    assert text.count("\n\n<!-- part ") == 2
    assert text.count("# Benchmarks\n") == 1


def test_the_published_page_is_that_of_the_command() -> None:
    """A page that was edited by hand would promise what no command shows, and lose the edit at the next execution."""
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").startswith(INTRODUCTION)


def test_small_figures_are_marked(tmp_path: Path) -> None:
    """A figure of seconds on a busy machine would otherwise be quoted as if it were measured."""
    assert "no more" in str(circumstances("make bench", is_full=False))
    assert "no more" not in str(circumstances("make bench", is_full=True))


def test_circumstances_name_no_path() -> None:
    """The page is public: directories of the machine that wrote it are of no use to its readers."""
    text = str(circumstances("make bench", is_full=True))
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


def test_a_plot_is_linked_and_always_the_same(tmp_path: Path) -> None:
    """A reader sees the picture; and equal figures must not make a change for each execution."""
    pytest.importorskip("matplotlib", reason="an extra of make bench")
    plot = Plot("cost", "Cost", "µs", [Bar("bare", 1.0, 0.1), Bar("agent", 2.0, 0.1)])
    text = page(tmp_path, ("delay", Section("Latency", [], plots=[plot])))
    assert "![Cost](benchmarks/delay-cost.svg)" in text
    first = (tmp_path / "benchmarks" / "delay-cost.svg").read_bytes()
    page(tmp_path, ("delay", Section("Latency", [], plots=[plot])))
    assert (tmp_path / "benchmarks" / "delay-cost.svg").read_bytes() == first
    page(tmp_path, ("delay", Section("Latency", [])))
    assert list((tmp_path / "benchmarks").iterdir()) == []


def test_the_terminal_shows_aligned_columns() -> None:
    """The reader of the terminal compares figures without counting columns."""
    assert TABLE.text().splitlines() == ["µs            p50", "bare          250", "sluice-agent  265"]


def test_each_part_estimates_its_duration() -> None:
    """Who starts the full size must know whether it takes minutes or hours."""
    for part in PARTS.values():
        assert 0 < part.seconds(SMALL) <= part.seconds(FULL)
    assert sum(part.seconds(SMALL) for part in PARTS.values()) < 30 * 60


def test_a_peer_has_its_own_requirements_with_a_version() -> None:
    """Figures of an unknown release of a peer can't be repeated."""
    assert all("==" not in peer.release and any(digit.isdigit() for digit in peer.release) for peer in PEERS)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = next(line for line in makefile.splitlines() if line.startswith("BENCH_VENVS := ")).split()[2:]
    assert set(names) == {flower.VENV, *(variant.venv for variant in ALL)}


def test_a_rate_that_the_start_decides_is_not_shown() -> None:
    """A small backlog would otherwise be drained at millions of events a second, which discredits the others."""
    assert backlog.beyond(0.9, empty=0.5) is None
    assert backlog.beyond(1.5, empty=0.5) == 1.0
