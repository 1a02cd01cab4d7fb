"""The page of one job, over a real server."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.server.pages.raw_events import MOST_EVENTS
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.events import CONNECTION, at, ingest, job_event
from tests.unit.server.pages.conftest import HTML, Page

TRACE = """Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task
    R = fun()
  File "/srv/shop/mail/tasks.py", line 12, in send
    connect()
OSError: no route
"""


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    return server.client()


def life(external_id: str, *, end: str = "completed", **fields: Any) -> list[dict[str, Any]]:
    """Return the events of a job that waits for a second and runs for two."""
    extensions = fields.pop("extensions", {})
    same = {"externalId": external_id, "extensions": extensions}
    return [
        job_event("queued", 0, createdAt=at(0), queue="mail", **same),
        job_event("active", 1, startedAt=at(1), workerId="celery@a", **same),
        job_event(end, 3, startedAt=at(1), completedAt=at(3), workerId="celery@a", **same, **fields),
    ]


def facts(page: Element) -> dict[str, str]:
    return {pair.one("dt").text: pair.one("dd").text for pair in page.all("dl", class_="facts")[0].all("div")}


def section(page: Element, title: str) -> Element:
    (found,) = [one for one in page.all("section") if one.all("h2") and one.all("h2")[0].text == title]
    return found


def test_a_failed_job(page: Page, client: httpx.Client) -> None:
    """Who is woken by a failure needs what, when, where and why on one page."""
    extensions = {"args": "[4711]", "kwargs": {"to": "x"}}
    ingest(client, *life("failed-1", end="failed", error="OSError: no route", stacktrace=TRACE, extensions=extensions))
    shown = page("/jobs/failed-1")
    assert shown.all("title")[0].text == "app.tasks.send_email · failed · Sluice"
    assert shown.one("h1").text == "app.tasks.send_email failed"
    assert facts(shown)["Waited"] == "1.00 s"
    assert facts(shown)["Ran"] == "2.00 s"
    assert facts(shown)["Worker"] == "celery@a"
    traceback = section(shown, "Traceback")
    assert [one.one("summary").text for one in traceback.all("details")] == ["1 frame of celery"]
    assert 'File "/srv/shop/mail/tasks.py", line 12, in send' in traceback.all("pre")[2].text
    values = section(shown, "Arguments and result")
    assert [(one.one("dt").text, one.one("dd").text) for one in values.all("dl")[0].all("div")] == [
        ("Arguments", "[4711]"),
        ("Keyword arguments", '{ "to": "x" }'),
    ]
    assert "3 received" in section(shown, "Events").text
    assert shown.one("body")["data-types"] == "job"


def test_a_short_job_has_exact_times(page: Page, client: httpx.Client) -> None:
    """It would be created, started and ended at the same second."""
    id_ = "short-run"
    ingest(client, job_event("active", 1.1, externalId=id_, createdAt=at(1), startedAt=at(1.1)))
    ingest(client, job_event("failed", 1.2, externalId=id_, startedAt=at(1.1), completedAt=at(1.2), maxRetries=2))
    shown = page(f"/jobs/{id_}")
    assert [time[-4:] for name, time in facts(shown).items() if name in ("Started", "Ended")] == [".100", ".200"]
    assert "attempt 1 of 3, not retried" in shown.one("main").text


def test_the_wait_is_the_same_in_the_list(page: Page, client: httpx.Client) -> None:
    """A retried job would have waited for hundredths of a second in one place, and for two in the other."""
    id_ = "retried-twice"
    first = {"externalId": id_, "createdAt": at(0), "extensions": {}}
    retried = first | {"attempt": 2, "extensions": {"eta": at(5)}}
    ingest(client, job_event("queued", 0, **first), job_event("active", 2, startedAt=at(2), **first))
    ingest(client, job_event("retrying", 3, **first), job_event("queued", 3, **retried))
    assert facts(page(f"/jobs/{id_}"))["Waits for"] != "–"
    ingest(client, job_event("active", 5.012, startedAt=at(5.012), **retried))
    shown = facts(page(f"/jobs/{id_}"))
    (row,) = page("/jobs", search=id_).one("tbody").all("tr")
    assert (shown["Waited"], row.all("td")[7].text) == ("12 ms", "0.012")
    assert "Runs for" in shown
    ingest(client, job_event("completed", 7, startedAt=at(5.012), completedAt=at(7), **retried))
    shown = facts(page(f"/jobs/{id_}"))
    (row,) = page("/jobs", search=id_).one("tbody").all("tr")
    assert (shown["Ran"], row.all("td")[8].text) == ("1.99 s", "1.99")


def test_the_wait_of_a_run_that_nobody_reported_is_not_known(page: Page, client: httpx.Client) -> None:
    """A retry without an ETA would have waited since the job was made, with the runs before in it."""
    same = {"externalId": "without-eta", "createdAt": at(0)}
    ingest(client, job_event("active", 2, startedAt=at(2), **same), job_event("retrying", 3, **same))
    ingest(client, job_event("active", 9, startedAt=at(9), attempt=2, **same))
    assert facts(page("/jobs/without-eta"))["Waited"] == "–"


def test_both_ids_lead_to_the_page(page: Page, client: httpx.Client) -> None:
    """Logs have Celery's id, links have Sluice's."""
    ingest(client, *life("both/ids?"))
    id_ = client.get("/jobs", params={"search": "both/ids?"}).json()["data"][0]["id"]
    assert page(f"/jobs/{id_}").one("h1").text == page("/jobs/both%2Fids%3F").one("h1").text


def test_what_was_not_captured_names_the_setting(page: Page, client: httpx.Client) -> None:
    """A user would look for arguments that the agent never sends unless asked to."""
    ingest(client, *life("plain"))
    shown = page("/jobs/plain")
    assert "SLUICE_CAPTURE_ARGS=1" in section(shown, "Arguments and result").text
    assert "No other job has published this one" in section(shown, "Place in its canvas").text
    assert not [one for one in shown.all("h2") if one.text == "Traceback"]


def test_the_place_in_the_canvas(page: Page, client: httpx.Client) -> None:
    """A member of a group that failed could not be traced back to the job that published it."""
    member = {"rootId": "root", "parentId": "root", "groupId": "group"}
    ingest(client, *life("root", extensions={"rootId": "root"}), *life("one", extensions=member))
    ingest(client, *life("two", end="failed", error="E: no", extensions=member))
    canvas = section(page("/jobs/two"), "Place in its canvas")
    rows = {pair.one("dt").text: pair.one("dd") for pair in canvas.one("dl").all("div")}
    assert rows["Published by"].text == "completed app.tasks.send_email"
    assert rows["Group"].text == "failed 1 completed 1 All 2 members"
    assert rows["Whole canvas"].one("a")["href"] == f"/canvas?rootId=root&connectionId={CONNECTION}"
    root = {
        pair.one("dt").text: pair.one("dd").text
        for pair in section(page("/jobs/root"), "Place in its canvas").one("dl").all("div")
    }
    assert root == {"Published": "failed 1 completed 1", "Whole canvas": "3 jobs as a tree"}
    removed = life("orphan", extensions={"rootId": "gone", "parentId": "gone"})
    ingest(client, *removed)
    assert "is not among the jobs here" in section(page("/jobs/orphan"), "Place in its canvas").text


def test_empty_ids_of_others_are_none(page: Page, client: httpx.Client) -> None:
    """A client that sends empty ids would have all its jobs in one canvas, to which no link leads."""
    ids = {"rootId": "", "parentId": "", "groupId": "", "retryOf": "", "retriedAs": ""}
    ingest(client, *life("lonely", extensions=ids), *life("lonely-too", extensions=ids))
    shown = page("/jobs/lonely")
    assert "No other job has published this one" in section(shown, "Place in its canvas").text
    assert "Retry of" not in facts(shown)


def test_recent_runs_mark_this_one_and_those_that_failed(page: Page, client: httpx.Client) -> None:
    """Whether a run was slow can only be seen beside the others."""
    for n in range(3):
        ingest(client, *life(f"run-{n}", end="failed" if n == 1 else "completed", name="app.plotted"))
    shown = section(page("/jobs/run-2"), "Recent runs of this task")
    points = [one for one in shown.all("svg") if "point" in one["class"].split() and "x" in one.attributes]
    assert sorted(point["class"] for point in points) == [
        "point state-completed",
        "point state-completed shown",
        "point state-failed",
    ]
    assert [len(point.all("path")) for point in points if "failed" in point["class"]] == [1]
    assert len(shown.one("tbody").all("tr")) == 3


def test_a_job_with_thousands_of_events_shows_the_first_and_the_last(page: Page, client: httpx.Client) -> None:
    """A job that is retried for days would have a page of many megabytes."""
    events = [
        job_event("active", 1 + n / 100, externalId="often", attempt=n + 1, startedAt=at(1 + n / 100))
        for n in range(MOST_EVENTS + 100)
    ]
    ingest(client, *events)
    shown = section(page("/jobs/often"), "Events")
    assert len(shown.all("details", class_="event")) == MOST_EVENTS
    assert f"The first and the last {MOST_EVENTS // 2} of {MOST_EVENTS + 100} events" in shown.text
    (all_events,) = [link["href"] for link in shown.all("a") if link.text == "All events"]
    first = section(page(all_events), "Events")
    last = section(page(first.one("a", rel="next")["href"]), "Events")
    numbers = [
        int(event["data-key"].removeprefix("event-"))
        for part in (first, last)
        for event in part.all("details", class_="event")
    ]
    assert numbers == list(range(1, MOST_EVENTS + 101))
    assert not last.all("a", rel="next")
    assert "Page 2 of 2" in section(page("/jobs/often", events=999), "Events").text
    page("/jobs/often", 400, events=0)


def test_long_texts_of_many_attempts_are_cut(page: Page, client: httpx.Client, browser: httpx.Client) -> None:
    """Two hundred attempts with a traceback each would be ten megabytes, fetched again at each change."""
    chance = random.Random(1)
    for attempt in range(1, MOST_EVENTS // 2):
        stacktrace = "".join(chance.choices("0123456789abcdef", k=20_000))
        fields = {"externalId": "long", "attempt": attempt, "stacktrace": stacktrace, "error": "OSError: no"}
        ingest(
            client, job_event("retrying", attempt, extensions={"stamps": stacktrace, "args": "a" * 50_000}, **fields)
        )
    ingest(client, job_event("active", 900, externalId="long", attempt=MOST_EVENTS, extensions={"eventId": "short"}))
    answer = browser.get("/jobs/long")
    assert len(answer.text) < 500_000
    shown = page("/jobs/long")
    assert "10,000 further characters" in section(shown, "Arguments and result").text
    *cut, whole = section(shown, "Events").all("details", class_="event")
    assert "further characters are not shown" in cut[0].text
    assert "short" in whole.text
    assert "not shown" not in whole.text


def test_hostile_texts_stay_texts(page: Page, client: httpx.Client) -> None:
    """Whoever can publish a job could run a script in the browser of an operator."""
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\u202e'
    ingest(
        client,
        *life(
            evil,
            end="failed",
            name="../../x?y#z%00",
            error=evil,
            stacktrace=evil + "x" * 40_000,
            extensions={"args": evil, "parentId": evil, "groupId": evil, "retryOf": evil, "stamps": {evil: evil}},
        ),
    )
    id_ = client.get("/jobs", params={"name": "../../x?y#z%00"}).json()["data"][0]["id"]
    shown = page(f"/jobs/{id_}")
    assert not [one for one in shown.all("script") if "src" not in one.attributes]
    assert not [one for one in shown.all("img") if one["src"] == "x"]
    assert "\u202e" not in shown.text
    assert shown.one("h1").text == "../../x?y#z%00 failed"


def test_a_job_that_is_not_here(page: Page, database: Path) -> None:
    """A link to a job that retention has removed would look broken."""
    shown = page("/jobs/absent", status=404)
    assert "those that are left were created since 2026-02-27 10:00 UTC" in shown.one("main").text
    now = datetime(2026, 2, 27, 11, tzinfo=timezone.utc)
    with local_sluice(database, now=lambda: now) as empty:
        answer = empty.client(HTML, path="").get("/jobs/absent")
        assert answer.status_code == 404
        assert "no job of this server has ended yet" in parse_html(answer.text).one("main").text


def test_a_job_of_very_many_events_shows_the_last_and_leads_to_the_first(page: Page, client: httpx.Client) -> None:
    """The page of a task that is retried for days would take seconds, or show another end than the list."""
    states = ("queued", "active", "retrying")
    for start in range(0, 1_500, 500):
        same = {"externalId": "very-long", "queue": "mail"}
        steps = ((n, {**same, "attempt": n // 3 + 1}) for n in range(start, start + 500))
        ingest(client, *(job_event(states[n % 3], n, event_id=f"very-long-{n}", **job) for n, job in steps))
    shown = page("/jobs/very-long")
    assert "States 1,001 to 1,500 of 1,500." in shown.text
    assert "476 further runs are not drawn." in shown.text
    assert "1,500 received" in section(shown, "Events").text
    second = section(page("/jobs/very-long", events=2), "Events").all("details", class_="event")
    assert [event["data-key"] for event in second] == [f"event-{number}" for number in range(201, 401)]
    (earlier,) = [link["href"] for link in shown.all("a") if link.text == "Earlier"]
    before = page(earlier)
    assert "States 401 to 1,000 of 1,500." in before.text
    assert [link.text for link in before.all("a") if link.text in ("Earlier", "Latest")] == ["Earlier", "Latest"]
    record = client.get("/jobs/very-long").json()
    assert len(record["stateHistory"]) == 1_000
    offset = record["extensions"]["stateHistoryOffset"]
    first = client.get("/jobs/very-long", params={"historyBefore": offset}).json()
    assert [entry["timestamp"] for entry in first["stateHistory"] + record["stateHistory"]] == [
        at(n) for n in range(1_500)
    ]
