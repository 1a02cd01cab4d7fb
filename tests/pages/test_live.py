"""Pages that follow what happens: at once, calmly, and after a lost connection without a gap."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.record.ids import job_id
from tests.pages.conftest import Send, SignIn, StartSession
from tests.pages.desk import Desk
from tests.pages.site import LIVE
from tests.support.chromium import session
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.relay import Relay
from tests.support.shop import CONNECTION, Shop, job_uuid
from tests.support.waiting import wait_until

FETCHES = "performance.getEntriesByType('resource').filter(e => e.initiatorType === 'fetch').map(e => e.startTime)"

NOTE_STATES = """() => {
  const live = document.querySelector("#live");
  window.states = [];
  new MutationObserver(() => window.states.push(live.textContent)).observe(
    live, {attributes: true, characterData: true, childList: true, subtree: true});
}"""
"""Notes what the page says of its connection: some of it stands there for a moment only."""

NOTE_FRAMES = """
  window.frames = [];
  window.EventSource = class extends EventSource {
    constructor(...args) {
      super(...args);
      this.addEventListener("job:state_change", ({data}) => window.frames.push(JSON.parse(data).id));
    }
  };
"""
"""Notes the jobs of which the stream has brought a frame: the page shows no frame before it has fetched itself."""


def new_job(state: str = "active", key: str | None = None) -> tuple[str, list[dict[str, object]]]:
    """Return the name of a new job's task, and its events."""
    name = f"shop.live.task_{key or uuid4().hex}"
    return name, Shop(datetime.now(timezone.utc)).job(name, state, name, ago=20)


def open_live(start_session: StartSession, path: str = "/jobs") -> Page:
    page = start_session().open(path)
    page.wait_for_selector(LIVE)
    page.mouse.move(5, 5)  # not over the table
    return page


def row_of(page: Page, name: str) -> Locator:
    return page.locator("tr[data-key]", has_text=name)


@pytest.fixture
def relay(sluice: LocalSluice) -> Iterator[Relay]:
    relay = Relay(int(sluice.url.rpartition(":")[2]))
    yield relay
    relay.close()


def test_the_first_change_is_painted_at_once(start_session: StartSession, send: Send) -> None:
    """Whoever waits for a job would look at the page for seconds, and reload it.

    All pauses of the script are by the page's clock, which passes as the test says: a busy machine makes none longer.
    """
    session = start_session()
    page = session.context.new_page()
    page.add_init_script(NOTE_FRAMES)
    page.clock.install()
    page.clock.pause_at(datetime.now(timezone.utc) + timedelta(seconds=1))
    page.goto(f"{session.url}/jobs")
    page.wait_for_selector(LIVE)
    page.clock.run_for(3_000)  # the first fetch begins: if it does not end, the page says that it is behind
    page.wait_for_selector(LIVE)
    page.clock.run_for(10_000)  # the pause after it: at most three times the 3 s that it has taken
    name, events = new_job()
    send(*events)
    wait_until(lambda: job_id(CONNECTION, job_uuid(name)) in page.evaluate("window.frames"), 30, "no frame came")
    page.clock.run_for(200)  # the shortest pause is 250
    expect(row_of(page, name)).to_be_visible()


def test_a_row_changes_in_place(start_session: StartSession, send: Send) -> None:
    """A page that is drawn anew loses the place of the eye, what is unfolded and what is selected."""
    page = open_live(start_session)
    name, events = new_job("completed")
    send(events[0])
    row = row_of(page, name)
    expect(row).to_contain_text("queued")
    row.evaluate("row => { row.isSame = true; }")
    send(*events[1:])
    expect(row).to_contain_text("completed")
    assert row.evaluate("row => row.isSame")


def test_new_rows_wait_while_the_table_is_in_use(start_session: StartSession, send: Send) -> None:
    """A row that comes in above moves the one that is about to be clicked."""
    page = open_live(start_session)
    first, (queued, *rest) = new_job("completed")
    send(queued)
    expect(page.locator("tr[data-key]").first).to_contain_text(first)
    row_of(page, first).hover()
    second, events = new_job()
    third, more = new_job()
    send(*events, *more, *rest)
    button = page.get_by_role("button", name="2 new")
    expect(button).to_be_visible()
    expect(row_of(page, first)).to_contain_text("completed")  # what is there goes on
    expect(page.locator("tr[data-key]").first).to_contain_text(first)
    button.click()
    expect(row_of(page, second)).to_be_visible()
    expect(row_of(page, third)).to_be_visible()
    expect(button).to_have_count(0)


def test_new_rows_come_in_when_the_table_is_left(start_session: StartSession, send: Send) -> None:
    """A page that is left open would stay behind until somebody pressed its button."""
    page = open_live(start_session)
    page.locator("tr[data-key]").first.hover()
    name, events = new_job()
    send(*events)
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    page.mouse.move(5, 5)
    expect(row_of(page, name)).to_be_visible()


def test_an_update_never_moves_the_focus(start_session: StartSession, send: Send) -> None:
    """Someone who works by keyboard or with a screen reader would start at the top again with each change."""
    page = open_live(start_session)
    link = page.locator("[data-row-link]").nth(2)
    link.focus()
    text = link.inner_text()
    _, events = new_job()
    send(*events)
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert page.evaluate("document.activeElement.innerText") == text


def test_at_most_four_repaints_a_second(start_session: StartSession, send: Send) -> None:
    """A busy server would keep each browser, and itself, busy with nothing but drawing."""
    page = open_live(start_session)

    def fetches() -> list[float]:
        send(*new_job()[1])
        return [float(start) for start in page.evaluate(FETCHES)]

    starts = wait_until(lambda: found if len(found := fetches()) > 4 else None)
    assert starts is not None
    assert min(after - before for before, after in pairwise(starts[1:])) >= 245  # a timer may fire a little early


def test_a_paused_page_stays_as_it_is(start_session: StartSession, send: Send) -> None:
    """What one reads, or wants to click, must stand still on a busy server."""
    page = open_live(start_session)
    wait_until(lambda: len(page.evaluate(FETCHES)) == 1)
    page.get_by_role("button", name="Pause").click()
    name, events = new_job()
    send(*events)
    expect(page.locator("#live")).to_contain_text("Paused")
    expect(page.locator("#live")).to_contain_text("changes since")
    assert row_of(page, name).count() == 0
    assert len(page.evaluate(FETCHES)) == 1
    page.reload()  # of the same tab: still paused
    expect(page.locator("#live")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(row_of(page, name)).to_be_visible()


def test_a_lost_connection_is_named_and_made_up_for(start_session: StartSession, send: Send, relay: Relay) -> None:
    """A page that has stopped would be taken for a system in which nothing happens."""
    session = start_session(f"http://127.0.0.1:{relay.port}")
    tab = session.context.new_page()
    tab.clock.install()
    tab.goto(f"{session.url}/jobs")
    tab.wait_for_selector(LIVE)
    relay.cut()
    status = tab.locator("#live")
    expect(status).to_contain_text("Reconnecting")
    missed = []
    for _ in range(3):
        name, events = new_job()
        send(*events)
        missed.append(name)
    tab.clock.fast_forward(30_000)
    expect(status).to_contain_text("Offline")
    expect(status).to_contain_text("as of")
    relay.restore()
    tab.wait_for_selector(LIVE)
    for name in missed:
        expect(row_of(tab, name)).to_be_visible()


def test_a_silent_connection_is_named(start_session: StartSession, send: Send, relay: Relay) -> None:
    """After a laptop has slept, its connections seem to be open for many minutes, and bring nothing."""
    session = start_session(f"http://127.0.0.1:{relay.port}")
    tab = session.context.new_page()
    tab.clock.install()
    tab.goto(f"{session.url}/jobs")
    tab.wait_for_selector(LIVE)
    assert relay.freeze() > 0
    name, events = new_job()
    send(*events)
    tab.evaluate(NOTE_STATES)
    tab.clock.fast_forward(45_000)
    wait_until(lambda: any("Reconnecting" in state for state in tab.evaluate("window.states")))
    tab.clock.fast_forward(11_000)  # the request that has learned nothing is given up
    expect(row_of(tab, name)).to_be_visible()
    tab.wait_for_selector(LIVE)


def test_eight_tabs_share_one_stream(start_session: StartSession, send: Send) -> None:
    """A browser opens six connections to a server: the seventh tab would hang without a word."""
    session = start_session()
    streams: list[Page] = []
    session.context.on(
        "request", lambda request: streams.append(request.frame.page) if "events/stream" in request.url else None
    )
    pages = [session.open("/jobs") for _ in range(8)]
    for page in pages:
        page.wait_for_selector(LIVE)
    name, events = new_job()
    send(*events)
    for page in pages:
        expect(row_of(page, name)).to_be_visible()
    assert len(streams) == 1
    streams[0].close()  # the next one takes over
    rest = [page for page in pages if page is not streams[0]]
    wait_until(lambda: rest[0].wait_for_timeout(20) or len(streams) == 2)
    name, events = new_job()
    send(*events)
    for page in rest:
        expect(row_of(page, name)).to_be_visible()
    assert len(streams) == 2


def test_without_locks_a_page_is_fetched_again_and_again(start_session: StartSession, send: Send) -> None:
    """Browsers withhold them on plain HTTP from another machine, where most self-hosted servers are."""
    session = start_session()
    session.context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', {value: undefined})")
    page = session.context.new_page()
    page.clock.install()
    page.goto(f"{session.url}/jobs")
    expect(page.locator("#live")).to_contain_text("every 5 s")
    name, events = new_job()
    send(*events)

    def is_painted() -> bool:
        page.clock.fast_forward(5_000)
        return row_of(page, name).is_visible()

    wait_until(is_painted, 30)


def test_a_hidden_page_does_nothing_and_catches_up(start_session: StartSession, send: Send) -> None:
    """Tabs that were left open for days would load the server, and drain the laptop's battery."""
    session = start_session()
    page = session.open("/jobs")
    page.wait_for_selector(LIVE)
    set_hidden(page, True)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    witness = session.open("/jobs")  # has the stream now
    name, events = new_job()
    send(*events)
    expect(row_of(witness, name)).to_be_visible()
    assert requests == []
    set_hidden(page, False)
    expect(row_of(page, name)).to_be_visible()


def set_hidden(page: Page, is_hidden: bool) -> None:
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        is_hidden,
    )


def test_a_job_follows_only_itself(start_session: StartSession, send: Send) -> None:
    """On a busy server the page of a job that ended long ago would be fetched four times a second."""
    session = start_session()
    name, (queued, *rest) = new_job("completed")
    send(queued)
    page = session.open(f"/jobs/{job_id(CONNECTION, job_uuid(name))}")
    page.wait_for_selector(LIVE)
    wait_until(lambda: len(page.evaluate(FETCHES)) == 1)  # as the stream begins
    witness = session.open("/jobs")
    other, events = new_job()
    send(*events)
    expect(row_of(witness, other)).to_be_visible()
    assert len(page.evaluate(FETCHES)) == 1
    send(*rest)
    expect(page.locator("main .state-completed").first).to_be_visible()


def test_a_reader_who_was_signed_out_is_told_where_to_sign_in(browser: Browser, tmp_path: Path) -> None:
    """A page that stays as it is, without a reason, looks like a server on which nothing happens."""
    options = AccessOptions(allowed_hosts=("sluice.example.com",), connection=CONNECTION)
    with local_sluice(tmp_path / "sluice.db", options=options) as server, session(browser, server.url) as opened:
        key = server.access.new_key
        assert key is not None
        sender = server.client({"Authorization": f"Bearer {key.secret}"})
        sender.post("/ingest", json={"events": new_job()[1]}).raise_for_status()
        page = opened.open(f"/login?token={server.access.sessions.create_token(Role.VIEWER)}")
        page.wait_for_url(f"{server.url}/")  # the link leads on to there
        page.goto(f"{server.url}/jobs")
        page.wait_for_selector(LIVE)
        other = opened.open("/jobs")
        other.get_by_role("button", name="Sign out").click()
        other.get_by_role("heading", name="Signed out").wait_for()
        expect(page.locator("#live")).to_contain_text("Signed out")  # at once: nothing has changed
        expect(page.locator("#live").get_by_role("link", name="Sign in")).to_have_attribute("href", "/login")
        expect(page.locator("#pause")).to_be_hidden()


def test_tabs_follow_the_session_where_reading_needs_none(desk: Desk, sign_in: SignIn) -> None:
    """A tab would say that it is live, and have buttons that the server refuses, or lack those that it would obey."""
    session = sign_in()
    page = session.open("/jobs?state=failed")
    page.wait_for_selector(LIVE)
    page.locator("#pause").click()  # a page that stands still is told as well
    other = session.open("/")
    other.get_by_role("button", name="Sign out").click()
    expect(page.locator("#live")).to_contain_text("Signed out")
    page.reload()
    expect(page.locator(".side .who")).to_have_text("Read only, not signed in")
    expect(page.get_by_role("checkbox")).to_have_count(0)
    desk.sign_in(session)
    expect(page.get_by_role("checkbox").first).to_be_visible()
    expect(page.locator(".side .who")).to_contain_text("Signed in as operator")


def test_a_page_stays_with_its_connection(browser: Browser, tmp_path: Path) -> None:
    """With two applications, a page without the connection in its address would show now the one, now the other."""
    with local_sluice(tmp_path / "sluice.db") as server, session(browser, server.url) as opened:
        client = server.client()
        shops = [Shop(datetime.now(timezone.utc), connection) for connection in (CONNECTION, str(uuid4()))]
        for shop, name in zip(shops, ("first", "second"), strict=True):
            client.post("/ingest", json={"events": shop.job(name, "queued", name, ago=30)}).raise_for_status()
        page = opened.open("/jobs")
        page.wait_for_selector(LIVE)
        shown, other = (0, 1) if page.locator("body").get_attribute("data-connection") == CONNECTION else (1, 0)
        name = ("first", "second")[shown]
        events = shops[other].job("newest", "queued", "newest", ago=0)
        events += shops[shown].job("own", "queued", "own", ago=1)
        client.post("/ingest", json={"events": events}).raise_for_status()
        expect(row_of(page, "own")).to_be_visible()
        expect(row_of(page, name)).to_be_visible()
        expect(row_of(page, "newest")).to_have_count(0)


def test_the_first_event_makes_a_page_live(browser: Browser, tmp_path: Path) -> None:
    """Whoever tries the server out would look at a page that follows its first connection only after a reload."""
    with local_sluice(tmp_path / "sluice.db") as server, session(browser, server.url) as opened:
        page = opened.open("/")
        expect(page.locator("main")).to_contain_text("Waiting for the first event")
        server.client().post("/ingest", json={"events": new_job()[1]}).raise_for_status()
        expect(page.locator("#live")).to_have_text("Live")
        expect(page.locator("body")).to_have_attribute("data-connection", CONNECTION)


def test_a_computer_that_slept_has_a_new_stream(start_session: StartSession) -> None:
    """Its old connection brings nothing any more: the page would say that it is live, and show the evening before."""
    session = start_session()
    page = session.context.new_page()
    page.clock.install()
    page.goto(f"{session.url}/jobs")
    page.wait_for_selector(LIVE)
    with page.expect_request("**/api/events/stream*"):
        page.clock.set_system_time(datetime.now(timezone.utc) + timedelta(hours=8))


def test_what_is_no_page_of_the_server_is_not_shown(start_session: StartSession, send: Send) -> None:
    """The page would become what a proxy answers while it can't reach the server, or wants a sign-in of its own."""
    page = open_live(start_session)
    page.route("**/jobs?*", lambda route: route.fulfill(content_type="text/html", body="<h1>Proxy</h1>"))
    send(*new_job()[1])
    expect(page.locator("#live")).to_contain_text("Behind")
    expect(page.get_by_role("heading", name="Proxy")).to_have_count(0)


def test_a_reader_who_has_signed_in_again_goes_on(browser: Browser, tmp_path: Path) -> None:
    """Each of a dozen open tabs would have to be loaded again by hand."""
    options = AccessOptions(allowed_hosts=("sluice.example.com",), connection=CONNECTION)
    with local_sluice(tmp_path / "sluice.db", options=options) as server, session(browser, server.url) as opened:
        page = opened.open(f"/login?token={server.access.sessions.create_token(Role.VIEWER)}")
        page.wait_for_url(f"{server.url}/")  # the link leads on to there
        page.goto(f"{server.url}/jobs")
        page.wait_for_selector(LIVE)
        cookies = opened.context.cookies()
        opened.context.clear_cookies()
        set_hidden(page, True)
        set_hidden(page, False)
        expect(page.locator("#live")).to_contain_text("Signed out")
        opened.context.add_cookies(cookies)
        set_hidden(page, True)
        set_hidden(page, False)
        expect(page.locator("#live")).to_have_text("Live")
        expect(page.locator("#pause")).to_be_visible()
