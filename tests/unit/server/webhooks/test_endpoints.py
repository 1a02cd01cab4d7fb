"""Which deliveries begin: endpoints that do not answer have few places, and those that do are never without."""

from __future__ import annotations

from sluice_agent.server.webhooks.endpoints import Endpoints
from sluice_agent.server.webhooks.ledger import Due
from sluice_agent.server.webhooks.schedule import Outcome

SECOND = 1_000_000
OK = Outcome(200, None, "")
NONE = Outcome(None, None, "ReadTimeout")


def due(*urls: str) -> list[Due]:
    return [Due(f"msg_{url}", url, number) for number, url in enumerate(urls)]


def begun(endpoints: Endpoints, now: int, *urls: str) -> list[str]:
    """Let all deliveries begin that may, each after the other, and return their URLs."""
    started: list[str] = []
    while chosen := [one.url for one in endpoints.choose(due(*urls), now)]:
        for url in chosen:
            endpoints.begin(url)
        started += chosen
    return started


def proven(endpoints: Endpoints, *urls: str) -> None:
    for url in urls:
        endpoints.begin(url)
        endpoints.end(url, OK, 0, 0)


def test_frozen_endpoints_leave_places_to_the_others() -> None:
    """As many endpoints that hang as there are places would end all webhooks for a while."""
    endpoints = Endpoints(8, 2)
    proven(endpoints, "good")
    frozen = [f"frozen {number}" for number in range(20)]
    assert begun(endpoints, 0, *frozen) == frozen[:4]
    assert begun(endpoints, 0, *frozen, "good") == ["good", "good"]
    for url in frozen[:4]:
        endpoints.end(url, NONE, 0, 20 * SECOND)
    new = ["new"]
    assert begun(endpoints, 20 * SECOND, *frozen[:4], *new) == new, "an endpoint that failed goes before a new one"


def test_an_endpoint_that_hangs_has_a_pause_that_grows() -> None:
    """An endpoint that is frozen would take a place for all of its thousand deliveries."""
    endpoints = Endpoints(8, 4)
    now = 0
    for pause in (20, 40, 60, 60):
        assert begun(endpoints, now, "frozen") == ["frozen"]
        now += 20 * SECOND
        endpoints.end("frozen", NONE, now - 20 * SECOND, now)
        assert begun(endpoints, now + pause * SECOND - 1, "frozen") == []
        now += pause * SECOND
    assert begun(endpoints, now, "frozen") == ["frozen"]
    endpoints.end("frozen", OK, now, now)
    assert begun(endpoints, now, "frozen") == ["frozen"] * 4


def test_an_endpoint_that_is_down_for_a_moment_has_no_pause() -> None:
    """Each connection that is reset would hold up all deliveries to the endpoint for a minute."""
    endpoints = Endpoints(8, 4)
    for second in range(100):
        now = second * SECOND
        assert begun(endpoints, now, "reset") == ["reset"]
        endpoints.end("reset", NONE, now - SECOND, now)


def test_an_endpoint_that_asks_for_a_pause_has_it() -> None:
    """An endpoint that is overloaded would get the next delivery at once."""
    for status, asked, pause in ((429, "7", 7), (503, "7", 7), (500, "7", 0), (429, "9999", 300), (429, None, 0)):
        endpoints = Endpoints(8, 2)
        proven(endpoints, "busy")
        assert begun(endpoints, 0, "busy") == ["busy"] * 2
        endpoints.end("busy", Outcome(status, asked, ""), 0, 0)
        endpoints.end("busy", OK, 0, 0)  # of the other one, which was on its way: it takes nothing back
        assert begun(endpoints, max(0, pause * SECOND - 1), "busy") == ([] if pause else ["busy"] * 2)
        assert begun(endpoints, pause * SECOND, "busy") == (["busy"] * 2 if pause else [])


def test_what_was_not_sent_changes_nothing() -> None:
    """A delivery that could not be signed would make its endpoint wait."""
    endpoints = Endpoints(2, 1)
    endpoints.begin("a")
    assert not endpoints.is_full
    endpoints.begin("b")
    assert endpoints.is_full
    endpoints.end("a", None, 0, 0)
    assert begun(endpoints, 0, "a") == []
    endpoints.end("b", OK, 0, 0)
    assert begun(endpoints, 0, "a") == ["a"]
