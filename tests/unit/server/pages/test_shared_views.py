"""A view that many ask for: made for all together, never older than a request, and not without a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from threading import Event
from time import monotonic

import pytest

from sluice_agent.server.pages.shared_views import SharedViews
from tests.support.waiting import wait_until

SLOW = 0.2  # seconds that it takes to make a view slowly


class Views:
    """Makes numbers in place of views, each as soon as `go` is set."""

    def __init__(self) -> None:
        self.go = Event()
        self.numbers = count()
        self.began: list[float] = []
        self.ended: list[float] = []

    def make(self, key: str) -> tuple[str, int]:
        number = next(self.numbers)
        self.began.append(monotonic())
        assert self.go.wait(10)
        self.ended.append(monotonic())
        return key, number

    def make_slowly(self, key: str) -> tuple[str, int]:
        time.sleep(SLOW)
        view = self.make(key)
        self.began[-1] -= SLOW
        return view


@pytest.fixture
def views() -> Iterator[Views]:
    views = Views()
    yield views
    views.go.set()


async def wait_for_begin(views: Views, times: int) -> None:
    await asyncio.to_thread(wait_until, lambda: len(views.began) == times)


def test_all_who_wait_get_one_view(views: Views) -> None:
    """Twenty open tabs would keep the server busy twenty times over, and events would wait."""

    async def ask() -> None:
        shared = SharedViews(views.make, ahead=0.0)
        first = asyncio.create_task(shared.get("shop"))
        await wait_for_begin(views, 1)
        others = [asyncio.create_task(shared.get("shop")) for _ in range(20)]
        await asyncio.sleep(0)  # they have asked
        views.go.set()
        assert await first == ("shop", 0)
        assert await asyncio.gather(*others) == [("shop", 1)] * 20  # not the first, which may lack a change
        assert views.began[1] - views.ended[0] >= 2.9 * (views.ended[0] - views.began[0])

    asyncio.run(ask())


def test_who_asks_now_and_then_does_not_wait(views: Views) -> None:
    """A page that is opened a second time would take four times as long as it takes to make it."""
    views.go.set()

    async def ask() -> list[float]:
        shared = SharedViews(views.make_slowly)
        for _ in range(3):
            await shared.get("shop")
        return [began - ended for began, ended in zip(views.began[1:], views.ended, strict=False)]

    assert max(asyncio.run(ask())) < 2 * SLOW  # a pause is three times as long as that


def test_another_connection_does_not_wait(views: Views) -> None:
    """A large application would delay the pages of a small one."""

    async def ask() -> None:
        shared = SharedViews(views.make)
        both = [asyncio.create_task(shared.get(key)) for key in ("large", "small")]
        await wait_for_begin(views, 2)
        views.go.set()
        assert {key for key, _ in await asyncio.gather(*both)} == {"large", "small"}

    asyncio.run(ask())


def test_a_view_that_failed_is_made_again() -> None:
    """One error of the database would be shown until the server is restarted."""
    numbers = count()

    def make(key: str) -> int:
        if (number := next(numbers)) == 0:
            raise OSError("gone")
        return number

    async def ask() -> None:
        shared = SharedViews(make)
        with pytest.raises(OSError, match="gone"):
            await shared.get("shop")
        assert await shared.get("shop") == 1

    asyncio.run(ask())
