"""Retry, revoke and keys in a browser: what is asked, what goes out, and what the pages show while it does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sluice_agent.jobs.runs.replays import go_on
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.principal import Role
from sluice_agent.server.record.ids import job_id
from tests.pages.conftest import SignIn
from tests.pages.desk import Desk, open_desk
from tests.pages.test_accessible import violations_everywhere
from tests.support.shop import CONNECTION, MAIL, Shop

QUESTION = "dialog[open] form"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk of the module's own: its tests add connections, after which pages name theirs."""
    with open_desk(tmp_path_factory.mktemp("actions")) as desk:
        yield desk


def button_of(page: Page, name: str) -> Any:
    return page.locator("main").get_by_role("link", name=name, exact=True)


def test_a_job_is_retried_from_its_page(desk: Desk, sign_in: SignIn) -> None:
    """A click would run a task without a question; or the answer would leave the reader at the job that failed."""
    [path] = desk.add("single")
    page = sign_in(reduced_motion="reduce").open(path)
    before = len(desk.broker.sent)
    button_of(page, "Retry").click()
    question = page.locator(QUESTION)
    expect(question.get_by_role("link", name="Cancel")).to_be_focused()
    expect(page.locator("dialog[open] pre")).to_have_text('("a@example.com", a="b")')
    assert violations_everywhere(page) == []
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    button_of(page, "Retry").click()
    question.get_by_role("link", name="Cancel").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert page.url == f"{desk.server.url}{path}"
    assert len(desk.broker.sent) == before
    button_of(page, "Retry").click()
    question.get_by_role("button", name="Retry").dblclick()
    page.wait_for_url(lambda url: path not in url)
    assert page.url == f"{desk.server.url}/jobs/{job_id(CONNECTION, desk.broker.sent[-1][0])}"
    assert len(desk.broker.sent) == before + 1  # a double click is one retry


def test_selected_jobs_are_retried(desk: Desk, sign_in: SignIn) -> None:
    """Other jobs than those that are ticked would go out; or the page would not say when they have."""
    desk.add(*(f"selected-{number}" for number in range(3)), queue="chosen")
    page = sign_in().open("/jobs?queue=chosen&state=failed")
    chosen = page.locator("[data-select]")
    ids = {chosen.nth(index).get_attribute("value") for index in (0, 2)}
    for index in (0, 2):
        chosen.nth(index).check()
    before = len(desk.broker.sent)
    page.locator("#selection button", has_text="Retry").click()
    expect(page.locator("dialog[open] h1")).to_have_text("Retry 2 jobs?")
    page.locator(QUESTION).get_by_role("button", name="Retry 2").click()
    expect(page.get_by_role("status").filter(has_text="Done")).to_be_visible()
    sent = {task_id for task_id, _ in desk.broker.sent[before:]}
    api = desk.server.client({"Authorization": "Bearer sk_any"})
    old = {job_id(CONNECTION, api.get(f"/jobs/{task_id}").json()["extensions"]["retryOf"]) for task_id in sent}
    assert old == ids


def test_all_that_match_are_retried_and_the_page_follows(desk: Desk, sign_in: SignIn) -> None:
    """Whoever has sent a thousand jobs would reload the page to see how far they are, and why some did not go."""
    desk.add(*(f"many-{number}" for number in range(60)), queue="many")
    [wrong] = desk.add("many-redacted", queue="many", extensions={"argsWhole": False})
    page = sign_in(reduced_motion="reduce").open("/jobs?queue=many&state=failed")
    button_of(page, "Retry all 61").click()
    expect(page.locator("dialog[open] h1")).to_have_text("Retry 61 failed jobs in queue many?")
    desk.broker.is_away = True
    try:
        page.locator(QUESTION).get_by_role("button", name="Retry 61").click()
        expect(page.locator("main")).to_contain_text("It waits:")
        page.evaluate("window.isSame = true")
    finally:
        desk.broker.is_away = False
    expect(page.get_by_role("status").filter(has_text="Done")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.isSame")  # without a reload
    reason = page.locator("main tbody tr")
    expect(reason).to_contain_text("SLUICE_CAPTURE_ARGS")
    assert reason.locator("a").get_attribute("href") == wrong
    assert violations_everywhere(page) == []


def test_a_viewer_has_no_buttons(desk: Desk, sign_in: SignIn) -> None:
    """A button that is always refused makes readers ask what is broken."""
    [path] = desk.add("viewed")
    session = sign_in(Role.VIEWER)
    assert session.open(path).get_by_role("link", name="Retry", exact=True).count() == 0
    page = session.open("/jobs?state=failed")
    assert page.locator("main input[type=checkbox], #selection").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("[data-row-link]").first).to_be_focused()
    page = sign_in(Role.VIEWER, java_script_enabled=False).open("/jobs?state=failed")
    assert page.locator("main input[type=checkbox], #selection").count() == 0
    page = session.open("/actions/new?kind=retry&state=failed")
    expect(page.locator("h1")).to_have_text("You may not see this page")


def test_everything_works_without_script(desk: Desk, sign_in: SignIn) -> None:
    """Companies that allow no scripts could look, and not act."""
    desk.add("plain", queue="plain")
    session = sign_in(java_script_enabled=False)
    page = session.open("/jobs?queue=plain&state=failed")
    page.locator("[data-select]").first.check()
    page.locator("#selection button", has_text="Retry").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("main")).to_contain_text("Retry of")
    [path] = desk.add("plain-single")
    page = session.open(path)
    button_of(page, "Retry").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("main")).to_contain_text("Retry of")
    page = session.open("/connections")
    page.get_by_label("Connection, new or existing").fill("without script")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#secret code").first).to_contain_text("sk_local_")
    page.get_by_role("link", name="Look again").click()
    expect(page.locator("#secret")).to_contain_text("shown once")


def test_a_new_key_stays_until_its_first_event(desk: Desk, sign_in: SignIn) -> None:
    """The key, which is shown once, would go away when the page follows what happens; or nobody would see the event."""
    session = sign_in(reduced_motion="reduce")
    assert violations_everywhere(session.open("/connections")) == []  # in a tab of its own, which it pauses
    page = session.open("/connections")
    page.get_by_label("Connection, new or existing").fill("new shop")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("[role=status]", has_text="Waiting for the first event")).to_be_visible()
    secret = page.locator("#secret code").first.inner_text()
    [connection] = [
        key.connection.id for key in desk.server.access.accounts.list_keys() if key.connection.name == "new shop"
    ]
    agent = desk.server.client({"Authorization": f"Bearer {secret}"})
    events = Shop(datetime.now(timezone.utc), connection).job("first", "completed", MAIL)
    assert agent.post("/ingest", json={"events": events}).json()["accepted"] == len(events)
    expect(page.locator("[role=status]", has_text="The first event has arrived")).to_be_visible()
    assert page.locator("#secret code").first.inner_text() == secret
    assert violations_everywhere(page) == []
    page = session.open("/connections")
    page.get_by_role("link", name="Revoke the key").first.click()
    expect(page.locator(QUESTION)).to_be_visible()
    assert violations_everywhere(page) == []
    assert violations_everywhere(session.open("/connections/log")) == []


def test_dead_letters_are_replayed(desk: Desk, sign_in: SignIn) -> None:
    """A double click would replay again what fails at once; or the page would not say when the replay is done."""
    page = sign_in().open("/dead-letters")
    for row in ("run-dead-letter", "run-hostile"):
        page.locator(f"tr[data-key='{row}'] [data-select]").check()
    page.locator("#selection").get_by_role("button", name="Replay").press("Enter")
    page.locator(QUESTION).get_by_role("button", name="Replay 2 runs").dblclick()
    status = page.locator("main [role=status]")
    expect(status).to_have_text("Running: 0 of 2")
    expect(page.locator("main .notice")).to_have_text("It waits: replays take turns, and an earlier one goes on.")
    store = JobsStore(Path(desk.server.database), lambda: datetime.now(timezone.utc))
    for _ in range(2):  # as an engine does
        with store.writing() as writer:
            go_on(writer, store.moment)
    store.close()
    expect(status).to_have_text("Done")
    page.get_by_role("link", name="Replays").click()
    expect(page.locator("main tbody tr")).to_have_count(2)
