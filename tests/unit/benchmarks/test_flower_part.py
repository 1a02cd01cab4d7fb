"""What the benchmark beside Flower makes of its measurements."""

from __future__ import annotations

from tests.benchmarks.beside_flower import Kept, Shown, arrived


def test_the_first_visit_of_a_page_is_apart() -> None:
    """It loads the scripts and fills caches, and is what a reader sees who opens the page once."""
    assert str(Shown(2.0, [0.5, 9.0, 0.4, 0.6, 0.5])) == "2.00, then 0.50"


def test_a_row_has_the_memory_in_megabytes() -> None:
    """The table would compare bytes of one with megabytes of the other."""
    page = Shown(1.0, [0.25])
    row = Kept(1_000_000, 850_000_000, 901_000_000, 3.21, page, Shown(4.0, [2.5])).row("Flower")
    assert row == ["Flower", "1,000,000", "850", "901", "3.2", "1.00, then 0.25", "4.00, then 2.50"]


def test_it_is_waited_for_the_slower_of_both() -> None:
    """Events that one has not read yet would be dropped, and the memory compared be that of fewer tasks."""
    steps = iter([1, 2, 3])
    assert arrived([lambda: 3, lambda: next(steps)], 3) == [3, 3]
    assert next(steps, None) is None


def test_what_is_lost_is_not_waited_for_without_an_end() -> None:
    """The benchmark would hang if one of both had lost an event."""
    assert arrived([lambda: 3, lambda: 2], 3, patience=0.01) == [3, 2]
