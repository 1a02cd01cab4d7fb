"""Retry and revoke from pages, over a real server with a broker that keeps what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from sluice_agent.server.access.principal import COOKIE, Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.record.ids import job_id
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.waiting import wait_until
from tests.unit.server.actions.conftest import WHOLE, RecordedBroker
from tests.unit.server.events import CONNECTION, ingest, job_event
from tests.unit.server.pages.conftest import HTML

Fields = list[tuple[str, str]]


class Desk:
    """A server with a broker, and browsers of both roles. Redirects are followed by hand."""

    def __init__(self, directory: Path, brokers: Brokers | None = None) -> None:
        self.broker = RecordedBroker()
        actions = ActionOptions(Brokers(default=self.broker) if brokers is None else brokers, ("app.*",))
        self.server = LocalSluice(directory / "s.db", options=AccessOptions(connection=CONNECTION), actions=actions)
        assert self.server.access.new_key is not None
        self.agent = self.server.client({"Authorization": f"Bearer {self.server.access.new_key.secret}"})
        self.operator, self.viewer = self.browser(Role.OPERATOR), self.browser(Role.VIEWER)
        self.nobody = self.server.client(HTML, "")

    def browser(self, role: Role) -> httpx.Client:
        """Return a browser that is signed in."""
        sessions = self.server.access.sessions
        signed_in = sessions.sign_in(sessions.create_token(role))
        assert signed_in is not None
        headers = {**HTML, "Cookie": f"{COOKIE}={signed_in[1]}", "Sec-Fetch-Site": "same-origin"}
        return self.server.client(headers, "")

    def add(self, job: str, state: str = "failed", **extensions: Any) -> str:
        """Send the event of a job, and return Sluice's id of it."""
        ingest(self.agent, job_event(state, 1, externalId=job, queue="emails", extensions={**WHOLE, **extensions}))
        return job_id(CONNECTION, job)

    def page(self, path: str, status: int = 200, **parameters: Any) -> Element:
        """Return the tree of a page as an operator sees it."""
        response = self.operator.get(path, params=parameters or None)
        assert response.status_code == status, response.text
        return parse_html(response.text)

    def send(self, fields: Fields, path: str = "/actions", browser: httpx.Client | None = None) -> httpx.Response:
        """Send a form."""
        body = urlencode(fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return (browser or self.operator).post(path, content=body, headers=headers)

    def sent_ids(self) -> list[str]:
        """Return the ids under which jobs were sent again."""
        return [task_id for task_id, _ in self.broker.sent]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One server for the module."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.server.stop()
    desk.server.join()


def question_of(page: Element) -> Element:
    return page.one("main").one("form", action="/actions")


def fields_of(page: Element) -> Fields:
    return [(field["name"], field["value"]) for field in question_of(page).all("input", type="hidden")]


def facts_of(page: Element) -> dict[str, str]:
    pairs = page.one("main").one("dl").all("div")
    return {pair.one("dt").text: pair.one("dd").text for pair in pairs}


def links(page: Element, text: str) -> list[str]:
    return [link["href"] for link in page.one("main").all("a") if link.text.startswith(text)]


def test_a_job_is_retried_from_its_page(desk: Desk) -> None:
    """Whoever sees a failed job would need a terminal to run it again."""
    job = desk.add("single")
    [href] = links(desk.page(f"/jobs/{job}"), "Retry")
    asked = desk.page(href)
    assert asked.one("h1").text == "Retry app.tasks.send_email?"
    assert asked.one("main").one("pre").text == '(1, a="b")'
    answer = desk.send(fields_of(asked))
    assert answer.status_code == 303
    new_id = desk.sent_ids()[-1]
    assert answer.headers["Location"] == f"/jobs/{job_id(CONNECTION, new_id)}"
    assert "Retry of" in desk.page(answer.headers["Location"]).one("main").text
    assert links(desk.page(f"/jobs/{job}"), new_id[:8]) == [f"/jobs/{job_id(CONNECTION, new_id)}"]


def test_arguments_are_not_kept_by_a_browser(desk: Desk) -> None:
    """Who uses the computer next could read in its cache what a job was called with, after the sign-out."""
    job = desk.add("private")
    for path in (f"/jobs/{job}", f"/api/jobs/{job}", f"/actions/new?kind=retry&job={job}"):
        assert desk.operator.get(path).headers.get_list("Cache-Control") == ["no-store"], path


def test_a_form_that_is_sent_twice_acts_once(desk: Desk) -> None:
    """A double click, or Back and another click, would run a payment twice."""
    job = desk.add("twice")
    fields = [*fields_of(desk.page("/actions/new", kind="retry", job=job)), ("again", "true")]
    before = len(desk.broker.sent)
    places = [desk.send(fields).headers["Location"] for _ in range(3)]
    assert len(set(places)) == 1
    assert len(desk.broker.sent) == before + 1


def test_a_retry_that_has_not_ended_is_asked_for_again(desk: Desk) -> None:
    """A job would run twice at once because somebody else has retried it already; or could not be retried at all."""
    job = desk.add("again")
    desk.send(fields_of(desk.page("/actions/new", kind="retry", job=job)))
    asked = desk.page("/actions/new", kind="retry", job=job)
    assert "was sent again as" in asked.one("main").text
    assert question_of(asked).all("button") == []
    [href] = links(asked, "Retry it all the same")
    before = len(desk.broker.sent)
    assert desk.send(fields_of(desk.page(href))).status_code == 303
    assert len(desk.broker.sent) == before + 1


def test_a_job_that_can_not_be_retried_says_why_before_it_is_sent(desk: Desk) -> None:
    """An operator would press a button that does nothing, and not know which setting is missing."""
    job = desk.add("redacted", argsWhole=False)
    asked = desk.page("/actions/new", kind="retry", job=job)
    assert "SLUICE_CAPTURE_ARGS" in asked.one("main").text
    assert question_of(asked).all("button") == []
    answer = desk.send(fields_of(asked))  # a page that was opened before may still have the button
    page = desk.page(answer.headers["Location"])
    assert facts_of(page)["Did not go"] == "1"
    shown = page.one("main")
    assert "SLUICE_CAPTURE_ARGS" in shown.one("tbody").text
    assert [link["href"] for link in shown.one("tbody").all("a")] == [f"/jobs/{job}"]


@pytest.mark.parametrize(("state", "button"), [("failed", "Retry"), ("active", "Revoke"), ("completed", "")])
def test_a_page_has_the_button_that_fits_the_state(desk: Desk, state: str, button: str) -> None:
    """A button that can only be refused is worse than none."""
    page = desk.page(f"/jobs/{desk.add(f'state-{state}', state)}")
    assert {text for text in ("Retry", "Revoke") if links(page, text)} == ({button} if button else set())


def test_a_wrong_state_is_refused(desk: Desk) -> None:
    """A job that has completed meanwhile would run a second time."""
    job = desk.add("done", "completed")
    asked = desk.page("/actions/new", kind="retry", job=job)
    assert "The job is completed" in asked.one("main").text
    place = desk.send(fields_of(asked)).headers["Location"]
    assert "The job is completed" in desk.page(place).one("tbody").text
    refused = desk.page("/actions/new", 400, kind="retry", state="active")
    assert "Nothing is selected" in desk.page("/actions/new", 409, kind="retry", isSelection="true").one("main").text
    assert "The filter selects jobs that are active" in refused.text


def test_a_revoke_asks_too(desk: Desk) -> None:
    """A queued job that must not run could not be stopped from its page."""
    job = desk.add("waiting", "queued")
    [href] = links(desk.page(f"/jobs/{job}"), "Revoke")
    answer = desk.send(fields_of(desk.page(href)))
    assert answer.headers["Location"] == f"/jobs/{job}"
    assert desk.broker.revoked[-1] == ["waiting"]


def test_selected_jobs_are_retried_together(desk: Desk) -> None:
    """Twelve jobs of a list would be retried one by one."""
    good = [desk.add(f"selected-{number}") for number in range(3)]
    wrong = desk.add("selected-wrong", "completed")
    asked = desk.page("/actions/new", kind="retry", job=[*good, wrong])
    assert asked.one("h1").text == "Retry 4 jobs?"
    assert "1 of 4: The job is completed" in asked.one("main").text
    assert question_of(asked).one("button").text == "Retry 3 jobs"
    place = desk.send(fields_of(asked)).headers["Location"]
    wait_until(lambda: "Done" in desk.page(place).one("main").text, 10, "it does not end")
    shown = desk.page(place)
    assert facts_of(shown)["Sent again"] == "3"
    [link] = shown.one("tbody").all("a")
    assert (link["href"], link["title"]) == (f"/jobs/{wrong}", "selected-wrong")
    for states, kinds in (([], ["retry", "revoke"]), (["failed"], ["retry"])):
        bar = desk.page("/jobs", state=states).one("form", id="selection")
        assert [button["value"] for button in bar.all("button")] == kinds
    listed = desk.page("/jobs", state="completed").one("main")  # nothing can be done with these
    assert listed.all("form", id="selection") == listed.all("input", type="checkbox") == []
    again = desk.page("/actions/new", kind="retry", job=good)
    assert "All 3: The last retry of the job has not ended." in again.one("main").text
    assert links(again, "Retry them all the same")


def test_all_that_match_are_retried(desk: Desk) -> None:
    """Twelve hundred failed jobs would be selected page by page."""
    for number in range(60):
        desk.add(f"many-{number}", groupId="many")
    listed = desk.page("/jobs", state="failed", groupId="many")
    [href] = links(listed, "Retry all 60")
    asked = desk.page(href)
    assert asked.one("h1").text == "Retry 60 failed jobs of group many?"
    place = desk.send(fields_of(asked)).headers["Location"]
    wait_until(lambda: facts_of(desk.page(place))["Sent again"] == "60", 20, "it does not end")
    wait_until(lambda: "Done" in desk.page(place).one("main").text, 10, "it does not end")
    assert desk.page(place).one("title").text == "Retry 60 failed jobs of group many · done · Sluice"
    assert links(desk.page("/jobs", groupId="many"), "Retry all") == []  # jobs in all states


def test_jobs_that_were_not_looked_at_can_be_tried(desk: Desk) -> None:
    """A thousand jobs could not be retried together because of the oldest of them."""
    for number in range(20):
        desk.add(f"some-{number:02}", groupId="some", argsWhole=False)
    asked = desk.page("/actions/new", kind="retry", state="failed", groupId="some")
    assert asked.one("h1").text == "Retry 20 failed jobs of group some"  # this is no question
    assert "All 20: " in asked.one("main").text
    assert question_of(asked).all("button") == []
    desk.add("some-good", groupId="some")
    asked = desk.page("/actions/new", kind="retry", state="failed", groupId="some")
    assert "All of the first 20: " in asked.one("main").text
    assert question_of(asked).one("button").text == "Retry 21 jobs"
    place = desk.send(fields_of(asked)).headers["Location"]
    wait_until(lambda: "Done" in desk.page(place).one("main").text, 10, "it does not end")
    assert facts_of(desk.page(place))["Sent again"] == "1"


def test_a_bulk_action_is_stopped(desk: Desk) -> None:
    """A wrong filter could not be stopped before all its jobs have gone out."""
    for number in range(3):
        desk.add(f"stop-{number}", groupId="stop")
    fields = fields_of(desk.page("/actions/new", kind="retry", state="failed", groupId="stop"))
    desk.broker.is_away = True
    try:
        place = desk.send(fields).headers["Location"]
        wait_until(lambda: "It waits" in desk.page(place).one("main").text, 10, "it does not wait")
        shown = desk.page(place)
        assert "can't be reached" in shown.one("main").text
        [stop] = shown.one("main").all("form")
        assert desk.send([], stop["action"]).headers["Location"] == place
    finally:
        desk.broker.is_away = False
    shown = desk.page(place)
    assert facts_of(shown)["Left as they were"] == "3"
    assert shown.one("main").all("form") == []
    assert desk.send([], stop["action"]).status_code == 303


def test_viewers_can_not_act(desk: Desk) -> None:
    """Whoever may only look could run tasks."""
    job = desk.add("viewed")
    for browser in (desk.viewer, desk.nobody):
        page = parse_html(browser.get(f"/jobs/{job}").text)
        assert links(page, "Retry") == []
        listed = parse_html(browser.get("/jobs?state=failed").text)
        assert links(listed, "Retry all") == []
        assert listed.all("form", id="selection") == listed.one("main").all("input", type="checkbox") == []
        assert listed.one("thead").all("th")[0]["class"] == "state-column"
        assert ("sign in as operator" in listed.one("main").text) is (browser is desk.nobody)
        assert "Select the row" not in listed.one("dialog", id="help").text
    assert "Select the row" in desk.page("/jobs").one("dialog", id="help").text
    fields = fields_of(desk.page("/actions/new", kind="retry", job=job))
    before = len(desk.broker.sent)
    refused = desk.send(fields, browser=desk.viewer)
    assert (refused.status_code, parse_html(refused.text).one("h1").text) == (403, "You may not do this")
    assert desk.send(fields, browser=desk.nobody).status_code == 401
    assert desk.viewer.get("/actions/new", params={"kind": "retry", "job": job}).status_code == 403
    place = desk.send(fields).headers["Location"]
    assert desk.send([], f"/actions/{uuid4()}/stop", desk.viewer).status_code == 403
    assert desk.viewer.get(place).status_code == 200
    assert len(desk.broker.sent) == before + 1


def test_another_site_can_not_send_the_form(desk: Desk) -> None:
    """A page elsewhere could run tasks with the operator's cookie."""
    fields = fields_of(desk.page("/actions/new", kind="retry", job=desk.add("foreign")))
    before = len(desk.broker.sent)
    body = urlencode(fields).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"}
    assert desk.operator.post("/actions", content=body, headers=headers).status_code == 403
    assert len(desk.broker.sent) == before


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ([], "kind"),
        ([("kind", "delete")], "retry or revoke"),
        ([("kind", "retry"), ("token", "x"), ("connectionId", CONNECTION)], "UUID"),
        ([("kind", "retry"), ("token", str(uuid4()))], "connectionId"),
        ([("kind", "retry"), ("token", str(uuid4())), ("connectionId", CONNECTION), ("state", "none")], "not valid"),
        ([("kind", "retry"), ("token", str(uuid4())), ("connectionId", CONNECTION), ("state", "active")], "active"),
        ([("kind", "retry"), ("token", str(uuid4())), ("connectionId", CONNECTION)] + [("job", "x")] * 101, "At most"),
    ],
)
def test_a_form_that_is_not_valid_is_a_400(desk: Desk, fields: Fields, part: str) -> None:
    """A form that was changed could select all jobs."""
    answer = desk.send(fields)
    assert answer.status_code == 400
    assert part in parse_html(answer.text).one("main").text


def test_a_job_that_does_not_exist_is_a_404(desk: Desk) -> None:
    """A job that retention has removed would be a failure of the server."""
    assert desk.operator.get("/actions/new", params={"kind": "retry", "job": str(uuid4())}).status_code == 404
    assert desk.operator.get(f"/actions/{uuid4()}").status_code == 404
    token = [("kind", "retry"), ("token", str(uuid4())), ("connectionId", CONNECTION), ("job", str(uuid4()))]
    assert desk.send(token).status_code == 404


def test_without_a_broker_a_sentence_names_the_option(tmp_path: Path) -> None:
    """An operator would look for a button that can't be there."""
    desk = Desk(tmp_path, Brokers())
    try:
        job = desk.add("no-broker")
        page = desk.page(f"/jobs/{job}")
        assert links(page, "Retry") == []
        assert "--broker" in page.one("main").text
        assert " -A " in page.one("main").text
        assert "--broker" in desk.page("/actions/new", kind="retry", job=job).one("main").text
    finally:
        desk.server.stop()
        desk.server.join()


def test_reading_without_a_sign_in_names_the_command(tmp_path: Path) -> None:
    """On an own machine nobody would find out how to retry."""
    with local_sluice(tmp_path / "s.db") as server:
        ingest(server.client(), job_event("failed", 1))
        page = parse_html(server.client(HTML, "").get(f"/jobs/{job_id(CONNECTION, 'job-1')}").text)
        assert "sluice-agent key link" in page.one("main").text
