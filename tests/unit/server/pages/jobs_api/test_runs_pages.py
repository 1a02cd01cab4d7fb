"""The list of runs, a run, and what can be done with it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store import schema as tables
from sluice_agent.jobs.store.schema import attempt, run_log
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.tokens import new_key
from sluice_agent.server.pages.no_jobs import LISTS
from tests.support.html import parse_html
from tests.support.jobs_shop import PAYLOAD, without_workers
from tests.support.local_sluice import local_sluice
from tests.unit.server.pages.jobs_api.conftest import HTML, JobsDesk, form_of, rows_of


def keys(desk: JobsDesk, path: str = "/runs", **parameters: object) -> list[str]:
    return [row["data-key"] for row in rows_of(desk.page(path, **parameters))]


def test_states_are_filtered_and_counted(desk: JobsDesk) -> None:
    """Who looks for what went wrong would have to read all runs."""
    page = desk.page("/runs", status=["crashed", "timed_out"])
    assert {row["data-key"] for row in rows_of(page)} == {desk.runs["crashed"], desk.runs["timed_out"]}
    assert page.one("h1").text == "Runs 2"
    chips = {
        chip["data-key"]: chip for chip in page.all("a") if chip.attributes.get("data-key", "").startswith("state-")
    }
    assert set(chips) == {f"state-{status.value}" for status in Status}
    assert chips["state-delayed"].text == "delayed2"  # the counts are those of the other filters
    assert chips["state-crashed"]["aria-current"] == "true"
    assert chips["state-crashed"]["href"] == "/runs?status=timed_out"


def test_runs_are_found_by_job_id_and_key(desk: JobsDesk) -> None:
    """The id of a log, and the name that people know, would lead to no run."""
    run = desk.shop.trigger(desk.shop.plain(), {}, idempotency_key="order 17/ä")
    assert keys(desk, search="order 17/ä") == [run]
    assert keys(desk, search=run) == [run]
    assert keys(desk, search="KEYED") == [run]
    assert keys(desk, search="keyed", status="dead_letter") == []
    assert keys(desk, job_id=desk.shop.hostile) == [desk.runs["hostile"]]
    assert keys(desk, error_class="server", status="crashed") == [desk.runs["crashed"]]
    assert keys(desk, search="%") == []


@pytest.mark.parametrize(
    "parameters", [{"status": "none"}, {"from": "soon"}, {"cursor": "x"}, {"job_id": "x" * 600}, {"project": "other"}]
)
def test_a_wrong_parameter_is_refused_in_words(desk: JobsDesk, parameters: dict[str, str]) -> None:
    """A typing error in a link that was sent would show runs that nobody has asked for."""
    status = 404 if "project" in parameters else 400
    assert desk.page("/runs", status, **parameters).one("h1").text


@pytest.mark.parametrize(("name", "states"), [("paged", []), ("paged by states", ["queued", "crashed"])])
def test_pages_go_on_where_the_last_one_ended(desk: JobsDesk, name: str, states: list[str]) -> None:
    """Runs at the edge of a page would be shown twice, or never."""
    job = desk.shop.plain(name)
    made = [desk.shop.trigger(job) for _ in range(60)]
    first = desk.page("/runs", job_id=job, status=states)
    [older] = [link["href"] for link in first.all("a", rel="next")]
    second = desk.page(older)
    assert [row["data-key"] for row in (*rows_of(first), *rows_of(second))] == made[::-1]
    assert second.one("nav", class_="pager").text.startswith("10 of 60 runs")
    [newest] = [link["href"] for link in second.all("a") if link.text == "Newest"]
    assert [row["data-key"] for row in rows_of(desk.page(newest))] == [row["data-key"] for row in rows_of(first)]


def test_a_page_before_another_is_found(desk: JobsDesk) -> None:
    """From the third page one could go only to the first."""
    job = desk.shop.plain("three pages")
    for _ in range(120):
        desk.shop.trigger(job)
    pages = [desk.page("/runs", job_id=job)]
    while older := pages[-1].all("a", rel="next"):
        pages.append(desk.page(older[0]["href"]))
    [newer] = pages[2].all("a", rel="prev")
    assert [row["data-key"] for row in rows_of(desk.page(newer["href"]))] == [
        row["data-key"] for row in rows_of(pages[1])
    ]


def test_a_run_shows_its_attempts_and_its_payload(desk: JobsDesk) -> None:
    """The reason of a failure would only be in the log of the endpoint."""
    page = desk.page(f"/runs/{desk.runs['dead_letter']}")
    assert page.one("h1").text == "Send mail dead letter"
    attempts = [row.text for row in rows_of(page)]
    assert len(attempts) == 2
    assert "503: the endpoint is overloaded 503 server" in attempts[0]
    assert "connect 12 ms · first byte 240 ms" in attempts[1]
    payload = page.one("pre", aria_label="Payload").text
    assert json.loads(payload) == PAYLOAD
    completed = desk.page(f"/runs/{desk.runs['completed']}")
    assert json.loads(completed.one("pre", aria_label="Result").text) == {"sent": True, "id": "m-1"}


def test_numbers_keep_their_digits(desk: JobsDesk) -> None:
    """An amount would be shown otherwise than it was sent."""
    body = b'{"payload": {"a": 1.10, "b": 12345678901234567890, "c": [], "d": [1, {"e": null}]}}'
    made = desk.api.post(f"/jobs/{desk.shop.plain('digits')}/trigger", content=body).json()
    text = desk.page(f"/runs/{made['id']}").one("pre", aria_label="Payload").text
    assert text == '{ "a": 1.10, "b": 12345678901234567890, "c": [], "d": [ 1, { "e": null } ] }'


def test_what_a_run_waits_for_is_named(desk: JobsDesk) -> None:
    """A run that waits for another job would look as if it were lost."""
    run = desk.shop.trigger(desk.shop.dependent("waits"))
    page = desk.page(f"/runs/{run}")
    assert page.one("h1").text == "waits waiting"
    [row] = [row for row in rows_of(page) if row["data-key"] == desk.shop.hostile]
    assert "completednot yet" in row.text


def test_a_queue_without_workers_is_named_with_the_command(desk: JobsDesk) -> None:
    """A new user would wait for runs that no worker will ever take."""
    without_workers(desk.store, "sluice.jobs")
    for path in ("/runs", f"/runs/{desk.runs['queued']}", f"/definitions/{desk.shop.mail}", "/queues"):
        assert "-I sluice_agent.jobs.tasks -Q sluice.jobs" in desk.page(path).one("main").text
    without_workers(desk.store, None)
    assert "jobs.tasks" not in desk.page("/runs").one("main").text


def test_a_webhook_is_sent_again(desk: JobsDesk) -> None:
    """A receiver that was away for a day would never learn of the run's end."""
    run = desk.shop.trigger(desk.shop.mail, PAYLOAD)
    desk.api.delete(f"/runs/{run}")
    page = desk.page(f"/runs/{run}")
    [row] = [row for row in rows_of(page) if row["data-key"].startswith("msg_")]
    assert "https://hooks.example.com/ended" in row.text
    [link] = [link for link in row.all("a") if link.text == "Send again"]
    question = desk.page(link["href"])
    assert question.one("form", action=link["href"]).one("button").text == "Send again"
    assert desk.send(link["href"]).headers["Location"] == f"/runs/{run}"
    assert desk.send(link["href"], [], desk.viewer).status_code == 403


def test_why_a_run_does_not_start_is_named(desk: JobsDesk) -> None:
    """A run of a job that a colleague has paused would look as if it were lost; or the time would be for programs."""
    made = desk.shop.plain("why")
    run = desk.shop.trigger(made)
    with desk.store.writing() as writer:
        later = {"is_ready": False, "available_at": 4_000_000_000_000_000}
        writer.execute(update(tables.run).where(tables.run.c.id == run).values(later))
    [notice] = [text for text in desk.page(f"/runs/{run}").all("p") if "several times" in text.text]
    assert notice.one("time")["datetime"] == "2096-10-02T07:06:40.000Z"
    assert "paused" not in desk.page(f"/runs/{run}").one("main").text
    desk.api.post(f"/jobs/{made}/pause")
    assert "Its job is paused" in desk.page(f"/runs/{run}").one("main").text
    desk.api.post("/jobs/batch-disable", json={"ids": [made]})
    assert "Its job is disabled" in desk.page(f"/runs/{run}").one("main").text


def test_a_run_is_canceled_after_a_question(desk: JobsDesk) -> None:
    """One click beside another button would end a payment."""
    run = desk.shop.trigger(desk.shop.mail, PAYLOAD)
    path = f"/runs/{run}/cancel"
    assert [link["href"] for link in desk.page(f"/runs/{run}").all("a") if link.text == "Cancel"] == [path]
    question = desk.page(path)
    assert question.one("h1").text == "Cancel this run of Send mail?"
    assert desk.run(run)["status"] == "queued"
    for _ in range(2):  # a form that is sent twice acts once
        answer = desk.send(path, form_of(question, path))
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/runs/{run}")
    assert desk.run(run)["status"] == "canceled"
    assert desk.page(path, 409).one("main").one("h1").text == "This can’t be done now"


def test_a_dead_letter_begins_again(desk: JobsDesk) -> None:
    """Its payload would have to be copied into a new trigger; or a form that is sent again would show an error, or
    replay again what has failed meanwhile."""
    run = desk.runs["dead_letter"]
    path = f"/runs/{run}/replay"
    fields = form_of(desk.page(path), path)
    for status in ("queued", "dead_letter"):
        answer = desk.send(path, fields)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/runs/{run}")
        assert (desk.run(run)["status"], desk.run(run)["attempt"]) == (status, 1)
        desk.shop.die(desk.store, [run])
    assert "of the replay" not in desk.page(f"/runs/{run}").one("main").text


def test_a_failed_run_is_replayed_with_another_payload(desk: JobsDesk) -> None:
    """A run that failed because of its payload would fail again, and for ever."""
    run = desk.runs["crashed"]
    path = f"/runs/{run}/replay-as-new"
    page = desk.page(path)
    assert json.loads(page.one("textarea").text) == PAYLOAD
    fields = [*form_of(page, path), ("payload", json.dumps({**PAYLOAD, "to": "bea@example.com"}))]
    places = {desk.send(path, fields).headers["Location"] for _ in range(2)}
    [place] = places  # a form that is sent twice acts once
    made = desk.run(place.removeprefix("/runs/"))
    assert made["payload"]["to"] == "bea@example.com"
    assert desk.run(run)["status"] == "crashed"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [("{", "not JSON"), (json.dumps({"to": "x"}), "'template' is a required property"), ("[1e999]", "too large")],
)
def test_a_payload_that_does_not_fit_comes_back(desk: JobsDesk, payload: str, reason: str) -> None:
    """What one has typed would be lost with the error."""
    path = f"/runs/{desk.runs['failed']}/replay-as-new"
    fields = [*form_of(desk.page(path), path), ("payload", payload)]
    answer = desk.send(path, fields)
    assert answer.status_code == 400
    page = parse_html(answer.text)
    assert reason in page.one("div", role="alert").text
    assert page.one("textarea").text == payload
    fixed = [*form_of(page, path), ("payload", json.dumps(PAYLOAD))]
    assert desk.send(path, fixed).status_code == 303


def test_only_operators_act(desk: JobsDesk) -> None:
    """Whoever may look could end and repeat what others have begun."""
    run = desk.shop.trigger(desk.shop.mail, PAYLOAD)
    for action in ("cancel", "replay", "replay-as-new", "debug-on", "debug-off", "reschedule"):
        for browser, status in ((desk.viewer, 403), (desk.stranger, 401)):
            assert desk.send(f"/runs/{run}/{action}", [], browser).status_code == status
            assert browser.get(f"/runs/{run}/{action}").status_code == status
    page = desk.page(f"/runs/{run}", browser=desk.viewer)
    assert [link for link in page.all("a") if link.text == "Cancel"] == []
    assert "sign in as operator" in desk.page(f"/runs/{run}", browser=desk.stranger).one("main").text
    assert desk.run(run)["status"] == "queued"


def test_a_form_of_another_site_is_refused(desk: JobsDesk) -> None:
    """A page of another site could cancel runs with the session of who looks at it."""
    run = desk.shop.trigger(desk.shop.mail, PAYLOAD)
    answer = desk.operator.post(
        f"/runs/{run}/cancel",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert desk.run(run)["status"] == "queued"


def test_pages_of_no_jobs_load_nothing(tmp_path: Path) -> None:
    """Each server that only observes would have a database more, and take 15 MB more."""
    with local_sluice(tmp_path / "s.db", has_jobs=True) as server:
        browser = server.client(HTML, "")
        for path, heading in LISTS.items():
            page = parse_html(browser.get(path).text)
            assert page.one("h1").text == heading
            assert "/v1/jobs" in page.one("main").text
        assert list(tmp_path.glob("*.jobs.db")) == []
        assert browser.get("/runs/none").status_code == 404
        assert browser.get("/runs/none/further/none").status_code == 404
        assert len(list(tmp_path.glob("*.jobs.db"))) == 1


def test_without_the_jobs_api_no_entry_leads_there(tmp_path: Path) -> None:
    """Links of the navigation would lead to errors."""
    with local_sluice(tmp_path / "s.db") as server:
        page = parse_html(server.client(HTML, "").get("/").text)
        assert [link for link in page.all("a") if link.text == "Runs"] == []


def test_a_key_sees_its_own_project_only(desk: JobsDesk) -> None:
    """The key of one customer would show the payloads of another one."""
    accounts = desk.server.access.accounts
    connection, _ = accounts.open_connection("other")
    secret = new_key()
    accounts.create_key(connection, Role.OPERATOR, secret)
    other = desk.server.client({**HTML, "Authorization": f"Bearer {secret}"}, "")
    assert other.get(f"/runs/{desk.runs['queued']}").status_code == 404
    assert other.get("/runs", params={"project": "shop"}).status_code == 403
    assert "No job is defined yet" in other.get("/runs").text
    assert desk.send(f"/runs/{desk.runs['queued']}/cancel", [], other).status_code == 404


def test_a_run_shows_the_heads_of_its_last_attempt(desk: JobsDesk) -> None:
    """What was kept to be looked at could be read by programs only."""
    run = desk.shop.trigger(desk.shop.plain("with heads"), {}, debug_mode=True)
    heads = {"url": "https://example.com/a", "request_headers": {"X-<b>": "1"}, "status_code": 503}
    trace = json.dumps({"total_ms": 1, "exchanges": [heads | {"answer_headers": {"retry-after": "9"}}]})
    with desk.store.writing() as writer:
        values = {"run_id": run, "attempt": 1, "started_at": 1}
        writer.execute(insert(attempt).values(retries=0, trace=trace, finished_at=2, **values))
        writer.execute(insert(attempt).values(retries=1, **values))
    text = desk.page(f"/runs/{run}").one("main").text
    assert "Debug modeon" in text
    assert "Request to https://example.com/aX-<b>: 1Answer 503retry-after: 9" in text
    assert "Heads of" not in desk.page(f"/runs/{desk.runs['crashed']}").one("main").text


def test_a_run_shows_its_environment(desk: JobsDesk) -> None:
    """The address of the job would be taken for the one that is requested."""
    run = desk.shop.trigger(desk.shop.plain("of staging", environment_id="staging"), {})
    assert "POST https://example.com/i in the environment staging" in desk.page(f"/runs/{run}").one("main").text


def test_debug_mode_is_turned_on_and_off(desk: JobsDesk) -> None:
    """To see the heads of a failed request, one would have to write a request oneself."""
    run = desk.shop.trigger(desk.shop.plain("debugged"))
    for mode, is_on in (("on", True), ("off", False)):
        path = f"/runs/{run}/debug-{mode}"
        [link] = [link for link in desk.page(f"/runs/{run}").all("a") if link.text == f"Turn debug mode {mode}"]
        assert link["href"] == path
        assert desk.page(path).one("h1").text == f"Turn debug mode {mode} for this run of debugged?"
        for _ in range(2):
            assert desk.send(path).headers["Location"] == f"/runs/{run}"
        assert desk.run(run).get("debug_mode", False) is is_on
        assert ("debug mode keeps those of the next attempt" in desk.page(f"/runs/{run}").one("main").text) is is_on


def test_a_delayed_run_gets_another_time(desk: JobsDesk) -> None:
    """A run that was scheduled for the wrong day would have to be canceled, and its payload typed again."""
    run = desk.shop.trigger(desk.shop.plain("moved"), scheduled_at=text_in(hours=3))
    path = f"/runs/{run}/reschedule"
    assert [link["href"] for link in desk.page(f"/runs/{run}").all("a") if link.text == "Reschedule"] == [path]
    field = desk.page(path).one("input", name="scheduled_at")
    assert field["value"] == text_in(hours=3)[:16]
    for wrong, reason in (("", "Choose a time"), ("soon", "Not before: "), (text_in(days=40), "more than 30 days")):
        page = parse_html(desk.send(path, [("scheduled_at", wrong)]).text)
        assert reason in page.one("div", role="alert").text
        assert page.one("input", name="scheduled_at")["value"] == wrong
    later = text_in(hours=5)[:16]
    assert desk.send(path, [("scheduled_at", later)]).headers["Location"] == f"/runs/{run}"
    assert desk.run(run)["scheduled_at"].startswith(later)
    desk.send(path, [("scheduled_at", "2020-01-01T00:00")])
    assert desk.run(run)["status"] == "queued"
    assert desk.page(path, 409).one("h1").text


def text_in(**duration: int) -> str:
    """Return the time after a duration, as a request has it."""
    return f"{datetime.now(timezone.utc) + timedelta(**duration):%Y-%m-%dT%H:%M:00Z}"


def test_what_an_endpoint_reports_is_shown(desk: JobsDesk) -> None:
    """How far a run of an hour is, and what it does, could be read by programs only."""
    run = desk.runs["executing"]
    page = desk.page(f"/runs/{run}")
    assert "40 % 2 of 5 files" in page.one("div", class_="progress meter").text
    lines = [row for row in rows_of(page) if row["data-key"].startswith("line-")]
    assert len(lines) == 20
    assert lines[0].text.endswith('warning<script>alert(1)</script>Data{ "file": 120 }2')
    [link] = [link["href"] for link in page.all("a") if link["href"] == f"/runs/{run}/log"]
    first = desk.page(link)
    [older] = [each["href"] for each in first.all("a", rel="next")]
    shown = [row["data-key"] for each in (first, desk.page(older)) for row in rows_of(each)]
    assert shown == [f"line-{number}" for number in range(120, 0, -1)]
    assert desk.page(f"/runs/{desk.runs['queued']}/log").one("div", class_="empty").one("h2").text == "No lines"
    assert desk.page("/runs/none/log", 404).one("h1").text


def test_a_long_log_is_a_page_of_bounded_size(desk: JobsDesk) -> None:
    """A log of a thousand lines with data would be a page of 24 MB."""
    run = desk.shop.trigger(desk.shop.plain("long log"))
    with desk.store.writing() as writer:
        line = {
            "run_id": run,
            "attempt": 1,
            "at": 1,
            "level": "info",
            "message": "m" * 8_000,
            "data": f'"{"d" * 16_000}"',
        }
        writer.execute(insert(run_log), [{**line, "number": number} for number in range(1, 101)])
    page = desk.page(f"/runs/{run}/log")
    assert len(rows_of(page)) == 100
    assert len(page.text) < 100_000
    assert "further characters" in rows_of(page)[0].text
