"""The speed of the machine beside the server's rates, so that figures of two hours can be compared."""

from __future__ import annotations

import pytest

from tests.benchmarks import yardstick
from tests.benchmarks.yardstick import Speed


def test_a_machine_of_half_the_speed_has_the_same_ratios() -> None:
    """A rate that has halved because the machine was slow would be taken for a fault of the server."""
    fast, slow = Speed([1_000, 1_200], [2_000, 2_100]), Speed([2_000, 2_400], [4_000, 4_200])
    assert fast.ratios(20_000) == slow.ratios(10_000) == pytest.approx((20, 40))


def test_the_row_has_both_pieces_of_work_and_the_ratios() -> None:
    """The reader must see whether the machine was slow, and whether others used it."""
    _, text = yardstick.row(Speed([1_000], [2_000]) + Speed([1_500, 4_000], [2_200, 3_000]), rate=20_000)
    assert text == (
        "Python loop min 1,000 median 1,500 µs, SQLite inserts min 2,000 median 2,200 µs; "
        "20.0 events a loop, 40.0 in the time of the inserts"
    )


def test_each_turn_does_both_pieces_of_work() -> None:
    """A median of one turn shows nothing of the others that use the machine."""
    speed = yardstick.measure(turns=3)
    assert len(speed.loop) == len(speed.inserts) == 3
    assert min(*speed.loop, *speed.inserts) > 0
