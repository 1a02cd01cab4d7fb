"""The list of jobs as a page: what it shows, and where its links lead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sluice_agent.server.record.ids import job_id
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.events import CONNECTION, at, ingest, job_event
from tests.unit.server.pages.conftest import HTML, Page

HOSTILE = "../../x?y#z%00<script>alert(1)</script>\u202egnp.exe"
OTHER = "7d9f1c1e-0000-4000-8000-000000000001"


def job_events(number: int, name: str, state: str, **fields: str) -> Iterator[dict[str, object]]:
    facts = {"externalId": f"job-{number}", "name": name, "createdAt": at(number), "queue": "mail"}
    yield job_event("queued", number, **facts)
    if state != "queued":
        facts |= {"startedAt": at(number + 1.5), "workerId": "celery@one"}
        ended = {} if state in ("active", "retrying") else {"completedAt": at(number + 4)}
        yield job_event(state, number + 4, **facts, **ended, **fields)


@pytest.fixture(scope="module", autouse=True)
def jobs(server: LocalSluice) -> None:
    """120 jobs: some of each kind."""
    client = server.client()
    events = []
    for number in range(120):
        if number == 7:
            events += job_events(number, HOSTILE, "failed", error="ValueError: <b>\nsecond line")
        else:
            events += job_events(
                number, "shop.send" if number % 2 else "shop.charge", "completed" if number % 3 else "queued"
            )
    ingest(client, *events)


def rows(page: Element) -> list[Element]:
    (body,) = page.all("tbody")
    return body.all("tr")


def names(page: Element) -> list[str]:
    return [row.one("a", data_row_link="").text for row in rows(page)]


def link(page: Element, text: str) -> str:
    """Return the address of the only link with this text."""
    (found,) = (one for one in page.all("a") if one.text == text)
    return found["href"]


def keys(page: Element) -> list[str]:
    return [row["data-key"] for row in rows(page)]


def test_a_row_shows_the_job(page: Page) -> None:
    """One could not find the job, or see at once what became of it."""
    row = next(row for row in rows(page("/jobs", search="job-7")))
    cells = [cell.text for cell in row.all("td")]
    assert cells[0] == "failed"
    assert cells[1].endswith("ValueError: <b>")
    assert cells[2:5] == ["job-7", "mail", "celery@one"]
    assert cells[5] == "1"
    assert cells[7:] == ["1.50", "2.50"]
    assert row.all("time")[0]["datetime"] == at(7)
    assert row["data-key"] == job_id(CONNECTION, "job-7")
    assert row.one("a", data_row_link="")["href"] == f"/jobs/{row['data-key']}"


def test_hostile_names_are_texts(page: Page) -> None:
    """Whoever may send events could run a script in the browser of an operator, or turn a name round."""
    found = page("/jobs", name=HOSTILE)
    assert names(found) == [HOSTILE.replace("\u202e", "\\u202e")]
    assert found.all("script") == [
        one for one in found.all("script") if one.attributes.get("src", "").startswith("/assets/")
    ]
    assert found.one("a", title="Remove this filter")["href"] == "/jobs"
    (kept,) = found.all("input", type="hidden", name="name")[:1]
    assert kept["value"] == HOSTILE


def test_states_are_added_and_taken_away(page: Page) -> None:
    """One could not look at two states at once, as failed and retrying jobs."""
    first = page("/jobs")
    chips = {chip.text: chip for chip in first.one("ul", aria_label="States").all("a")}
    assert list(chips) == [
        "active0", "queued40", "scheduled0", "retrying0", "failed1", "completed79", "cancelled0", "unknown0",
    ]  # fmt: skip
    second = page(chips["failed1"]["href"])
    assert [row.all("td")[0].text for row in rows(second)] == ["failed"]
    assert second.one("title").text == "Jobs · 1 failed · Sluice"
    third = page(link(second, "queued40"))
    assert len(rows(third)) == 41
    assert parse_qs(urlsplit(link(third, "failed1")).query) == {"state": ["queued"]}


def test_pages_lead_to_both_sides(page: Page) -> None:
    """One could not get back to the jobs that one has just seen, or would miss some."""
    seen = [page("/jobs")]
    while any(one.text == "Older" for one in seen[-1].all("a")):
        seen.append(page(link(seen[-1], "Older")))
    assert [len(rows(one)) for one in seen] == [50, 50, 20]
    assert len({key for one in seen for key in keys(one)}) == 120
    back = page(link(seen[2], "Newer"))
    assert keys(back) == keys(seen[1])
    assert link(back, "Newer") == link(back, "Newest") == "/jobs"


@pytest.mark.parametrize("sorting", ["durationMs", "worker", "name", "completedAt", "state"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_the_page_before_is_found_in_every_order(page: Page, sorting: str, direction: str) -> None:
    """Jobs without a value come last in both directions: a page beside them would be left out or repeated."""
    seen = [page("/jobs", sortBy=sorting, sortOrder=direction)]
    for _ in range(2):
        seen.append(page(link(seen[-1], "Next")))
    assert keys(page(link(seen[2], "Previous"))) == keys(seen[1])
    assert keys(page(link(seen[1], "Previous"))) == keys(seen[0])


def test_headers_sort(page: Page) -> None:
    """The slowest jobs could be found by no link."""
    first = page("/jobs")
    assert [header.text for header in first.all("th", aria_sort="descending")] == ["Created"]
    slowest = page(link(first, "Run, s"))
    (header,) = slowest.all("th", aria_sort="descending")
    assert header.text == "Run, s"
    assert "sortOrder=asc" in header.one("a")["href"]
    assert page(link(first, "Task")).all("th", aria_sort="ascending")[0].text == "Task"


def test_forms_keep_the_other_filters(page: Page) -> None:
    """A search would silently widen the list to all states and queues."""
    found = page("/jobs", state="failed", queue="mail", sortBy="name", sortOrder="asc")
    for form in found.all("form"):
        if form.attributes.get("action") == "/jobs":
            hidden = {(one["name"], one["value"]) for one in form.all("input", type="hidden")}
            assert hidden == {("state", "failed"), ("queue", "mail"), ("sortBy", "name"), ("sortOrder", "asc")}


def test_empty_fields_of_a_form_do_not_filter(page: Page) -> None:
    """The form's fields that one leaves empty would be refused, or match nothing."""
    assert len(rows(page("/jobs?name=&queue=&groupId=&from=&search=&name=shop.send&cursor="))) == 50


def test_fields_offer_what_occurs(page: Page) -> None:
    """One would have to know the names of queues by heart."""
    found = page("/jobs")
    assert [one["value"] for one in found.one("datalist", id="known-queue").all("option")] == ["mail"]
    assert {one["value"] for one in found.one("datalist", id="known-name").all("option")} >= {
        "shop.charge",
        "shop.send",
    }


def test_periods_filter_by_creation(page: Page) -> None:
    """Jobs of the last hour would have to be found by scrolling."""
    found = page(link(page("/jobs"), "Last hour"))
    assert "There are no jobs created since" in found.one("main").text
    assert link(found, "Show all jobs") == "/jobs"
    between = page("/jobs", **{"from": "2026-02-27T10:00", "to": "2026-02-27T10:01"})
    assert [one["value"] for one in between.all("input", type="datetime-local")] == [
        "2026-02-27T10:00",
        "2026-02-27T10:01",
    ]
    assert len(keys(between)) == 50


def test_what_is_not_valid_is_named(page: Page) -> None:
    """A link with a typing error would show all jobs, as if they matched."""
    assert "state" in page("/jobs?state=done", 400).one("ul").text
    assert "sortBy" in page("/jobs?sortBy=colour", 400).one("ul").text
    assert "The cursor does not belong to this list" in page("/jobs?cursor=abc", 400).text


def test_an_empty_server_names_the_next_step(database: Path) -> None:
    """Who has just started the server would see an empty table, and not know why."""
    with local_sluice(database) as server:
        page = parse_html(server.client(HTML, path="").get("/jobs").text)
    assert "No jobs yet" in page.one("main").text
    assert link(page, "Connect an app") == "/connections"


def test_links_stay_on_the_connection(database: Path) -> None:
    """A click would lead from the jobs of one team to those of another."""
    with local_sluice(database) as server:
        ingest(server.client(), *job_events(1, "app.one", "completed"))
        ingest(server.client(), *({**event, "connectionId": OTHER} for event in job_events(90, "app.two", "failed")))
        browser = server.client(HTML, path="")
        newest = parse_html(browser.get("/jobs").text)
        assert names(newest) == ["app.two"]
        assert newest.one("body")["data-connection"] == OTHER
        chosen = parse_html(browser.get("/jobs", params={"connectionId": CONNECTION, "state": "completed"}).text)
        assert names(chosen) == ["app.one"]
        for one in chosen.one("main").all("a"):
            assert f"connectionId={CONNECTION}" in one["href"], one.text
        switched = chosen.one("details", id="connections").all("a")
        assert [one["href"] for one in switched] == [f"/jobs?connectionId={CONNECTION}", f"/jobs?connectionId={OTHER}"]
        task = browser.get("/task", params={"name": "app.one", "connectionId": CONNECTION})
        (_, switch) = parse_html(task.text).one("details", id="connections").all("a")
        assert switch["href"] == f"/tasks?connectionId={OTHER}"


def test_the_answer_is_small(browser: httpx.Client) -> None:
    """A phone on a slow network would wait for each page."""
    with browser.stream("GET", "/jobs") as response:
        assert len(b"".join(response.iter_raw())) < 20_000
