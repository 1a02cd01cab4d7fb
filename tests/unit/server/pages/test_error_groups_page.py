"""The pages of errors: groups by class and location, and one group, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice
from tests.unit.server.events import at, ingest, job_event
from tests.unit.server.pages.conftest import HTML, Page

NOW = datetime(2026, 2, 27, 10, 58, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    server = LocalSluice(tmp_path_factory.mktemp("errors") / "sluice.db", now=lambda: NOW)
    fill(server.client())
    yield server
    server.stop()
    server.join()


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    return server.client()


def failed(external_id: str, seconds: float, error: str, line: int | None = None, **fields: Any) -> dict[str, Any]:
    trace = 'Traceback (most recent call last):\n  File "/srv/shop/mail/tasks.py", line {}, in send\n    x()\nE'
    stacktrace = {} if line is None else {"stacktrace": trace.format(line)}
    times = {"createdAt": at(seconds - 2), "completedAt": at(seconds)}
    state = fields.pop("state", "failed")
    return job_event(state, seconds, externalId=external_id, error=error, **times, **stacktrace, **fields)


def fill(client: httpx.Client) -> None:
    ingest(
        client,
        *(failed(f"a{n}", 60 * n + 5, f"OSError: try {n}", 12, name=f"app.{'one' if n else 'two'}") for n in range(4)),
        failed("b1", 1_800, "OSError: no", 40),
        failed("b2", 1_900, "OSError: no"),
        failed("c1", 2_000, "KeyError: 'x'", 40, state="retrying"),
        failed("d1", 2_100, "killed by signal 9"),
        failed("e1", 2_200, "<script>alert(1)</script>", 7),
        job_event("failed", 2_300, externalId="e2", error='Evil: "><img src=x onerror=alert(1)>\u202e'),
        job_event("completed", 2_400, externalId="fine"),
        failed("f1", 2_500, "Gone: x", 3),
        job_event("active", 2_600, externalId="f1", attempt=2),
    )


def groups(page: Element) -> list[tuple[str, ...]]:
    """Return of each row the error, its location, and the number of jobs."""
    rows = page.one("table", class_="list errors").one("tbody").all("tr")
    return [
        (
            row.all("a")[0].text,
            (row.all("code") or [Element("")])[0].text
            if "place" in "".join(span.attributes.get("class", "") for span in row.all("span"))
            else "",
            row.all("td")[1].text,
        )
        for row in rows
    ]


def test_errors_are_grouped_by_class_and_location(page: Page) -> None:
    """A thousand failures with one cause would be a thousand lines."""
    shown = page("/errors")
    found = {(name, location): int(jobs) for name, location, jobs in groups(shown)}
    assert found[("OSError", "mail/tasks.py:12 in send")] == 4
    assert found[("OSError", "mail/tasks.py:40 in send")] == 1
    assert found[("KeyError", "mail/tasks.py:40 in send")] == 1
    assert "Gone" not in {name for name, _ in found}  # it runs again
    assert groups(shown)[0][2] == "4"
    assert shown.all("title")[0].text == "Errors · 8 · Sluice"
    first = shown.one("table", class_="list errors").one("tbody").all("tr")[0]
    assert "try 3" in first.text
    assert "and 1 more" in first.text
    assert [time["datetime"] for time in first.all("time")] == ["2026-02-27T10:00:05.000Z", "2026-02-27T10:03:05.000Z"]
    assert first.all("a")[-1].text == "a3"  # its id in the logs
    assert "2 further jobs have failed without the class of an error" in shown.one("main").text


def test_a_number_leads_to_exactly_those_jobs(page: Page, client: httpx.Client) -> None:
    """A user would retry jobs that failed for another reason."""
    exact = 0
    for row in page("/errors").one("table", class_="list errors").one("tbody").all("tr"):
        cell = row.all("td")[1]
        for link in cell.all("a"):
            parameters = [pair for pair in parse_qsl(urlsplit(link["href"]).query) if pair[0] != "connectionId"]
            assert client.get("/jobs", params=parameters).json()["pagination"]["total"] == int(cell.text)
            exact += 1
        if not cell.all("a"):
            assert row.all("a")[0].text == "OSError"  # one without a location, beside others of its class
    assert exact == len(groups(page("/errors"))) - 1


def test_one_group(page: Page) -> None:
    """When it began, and which tasks it is about, decide who has to act."""
    shown = page("/error", errorClass="OSError", errorLocation="mail/tasks.py:12 in send")
    assert shown.one("h1").text == "OSError"
    figures = {pair.one("dt").text: pair.one("dd").text for pair in shown.one("dl", class_="figures").all("div")}
    assert figures["Jobs"] == "4"
    tasks, jobs = shown.all("table", class_="list")
    assert [[cell.text for cell in row.all("td")] for row in tasks.one("tbody").all("tr")] == [
        ["app.one", "3"],
        ["app.two", "1"],
    ]
    assert len(jobs.one("tbody").all("tr")) == 4
    without = page("/error", errorClass="OSError")
    assert "without a traceback" in without.one("main").text
    assert "/errors lists those" in page("/error", status=404, errorClass="Never").one("main").text
    assert page("/error", status=404, errorClass="OSError", errorLocation="x.py:1 in y")


def test_the_window_is_selected(page: Page) -> None:
    """An error of last week would hide that of this hour."""
    assert len(groups(page("/errors", timeRange="7d"))) == len(groups(page("/errors")))
    (current,) = page("/errors", timeRange="1h").one("nav", aria_label="Time range").all("a", aria_current="true")
    assert current.text == "1 hour"


def test_without_errors(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty table would look like a page that failed to load."""
    server = LocalSluice(tmp_path_factory.mktemp("none") / "sluice.db")
    shown = parse_html(server.client(HTML, path="").get("/errors").text)
    assert "No errors" in shown.one("main").text
    server.stop()
    server.join()


def test_hostile_errors_stay_texts(page: Page) -> None:
    """An error is a text of whoever can make a task fail."""
    for shown in (page("/errors"), page("/error", errorClass="Evil")):
        assert not [one for one in shown.all("script") if "src" not in one.attributes]
        assert not [one for one in shown.all("img") if one["src"] == "x"]
        assert "\u202e" not in shown.text
