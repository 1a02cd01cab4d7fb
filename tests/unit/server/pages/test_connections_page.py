"""Connections, their keys and the log of actions, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from sluice_agent.server.access.principal import COOKIE, Role
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice
from tests.unit.server.events import ingest, job_event
from tests.unit.server.pages.conftest import HTML

Fields = list[tuple[str, str]]


class Office:
    """A server, and browsers of both roles."""

    def __init__(self, directory: Path) -> None:
        self.server = LocalSluice(directory / "s.db", daily_limit=1_000)
        self.operator, self.viewer = self.browser(Role.OPERATOR), self.browser(Role.VIEWER)

    def browser(self, role: Role) -> httpx.Client:
        """Return a browser that is signed in."""
        sessions = self.server.access.sessions
        signed_in = sessions.sign_in(sessions.create_token(role))
        assert signed_in is not None
        headers = {**HTML, "Cookie": f"{COOKIE}={signed_in[1]}", "Sec-Fetch-Site": "same-origin"}
        return self.server.client(headers, "")

    def page(self, path: str, browser: httpx.Client | None = None, status: int = 200) -> Element:
        """Return the tree of a page."""
        response = (browser or self.operator).get(path)
        assert response.status_code == status, response.text
        return parse_html(response.text)

    def send(self, path: str, fields: Fields, browser: httpx.Client | None = None) -> httpx.Response:
        """Send a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return (browser or self.operator).post(path, content=urlencode(fields).encode(), headers=headers)

    def form(self, page: Element) -> tuple[str, Fields]:
        """Return the address and the hidden fields of the only form of a page."""
        form = page.one("main").one("form")
        return form["action"], [(field["name"], field["value"]) for field in form.all("input", type="hidden")]

    def make(self, connection: str, role: str = "ingest") -> Element:
        """Make a key by the form, and return the page that shows it."""
        path, fields = self.form(self.page("/connections"))
        response = self.send(path, [*fields, ("connection", connection), ("role", role)])
        assert response.status_code == 200, response.text
        assert response.headers["Cache-Control"] == "no-store"
        return parse_html(response.text)

    def last_action(self) -> tuple[str, str]:
        """Return the last action in the log, and what it was done to."""
        [logged] = self.server.access.audit.latest(1)
        return logged.entry.action, logged.entry.subject


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One server for the module."""
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.server.stop()
    office.server.join()


def secret_of(page: Element) -> str:
    return page.one("main").all("code", class_="command")[0].text


def id_of(page: Element) -> str:
    return page.one("main").all("p")[1].text.partition(",")[0]


def section_of(page: Element, name: str) -> Element:
    (found,) = [section for section in page.one("main").all("section") if section.one("h2").text == name]
    return found


def lines_of(page: Element) -> dict[str, str]:
    """Return the snippets by their titles."""
    return {section.one("h2").text: section.one("pre").text for section in page.one("main").all("section")}


def test_a_new_key_is_shown_once_with_what_to_paste(office: Office) -> None:
    """Whoever sets up an app would look for the names of variables in documents, or lose the key."""
    page = office.make("shop")
    secret, key = secret_of(page), id_of(page)
    [connection] = [each for each in office.server.access.accounts.list_keys() if each.id == key]
    lines = lines_of(page)
    assert len(lines) == 3
    for text in lines.values():
        assert f"SLUICE_API_KEY={secret}" in text
        assert f"SLUICE_CONNECTION_ID={connection.connection.id}" in text
    assert f"SLUICE_API_URL={office.server.url}/api" in lines["A worker with the agent"]
    assert "sluice-agent monitor --broker" in lines["A sidecar, without a change of the app"]
    assert f"SLUICE_BASE_URL={office.server.url} " in lines["The vendor’s SDK"]
    assert office.last_action() == ("key create", key)
    again = office.page(f"/connections/key?id={key}")
    assert secret not in again.one("main").text
    assert "shown once" in again.one("main").text


def test_the_first_event_is_noticed(office: Office) -> None:
    """Nobody would know whether the lines were pasted in the right place."""
    page = office.make("arriving")
    key = id_of(page)
    assert "Waiting for the first event" in page.one("main").text
    found = office.server.access.accounts.key_with_id(key)
    agent = office.server.client({"Authorization": f"Bearer {secret_of(page)}"})
    ingest(agent, {**job_event("failed", 1), "connectionId": found.connection.id})
    shown = office.page(f"/connections/key?id={key}").one("main")
    assert "The first event has arrived" in shown.text
    row = section_of(office.page("/connections"), "arriving")
    facts = {pair.one("dt").text: pair.one("dd").text for pair in row.one("dl").all("div")}
    assert facts["Events today (UTC)"] == "1 of 1,000"
    assert facts["Last event"] != "none yet"
    assert "never" not in row.one("tbody").text


def test_a_form_that_is_sent_twice_makes_one_key(office: Office) -> None:
    """The answer to a double click is the second one: its key would not be that which was made."""
    path, fields = office.form(office.page("/connections"))
    form = [*fields, ("connection", "twice"), ("role", "ingest")]
    first, second = (parse_html(office.send(path, form).text) for _ in range(2))
    assert secret_of(first) == secret_of(second)
    assert len(section_of(office.page("/connections"), "twice").all("tr")) == 2  # the head, and one key


def test_a_key_is_replaced(office: Office) -> None:
    """A key that has leaked could be changed in a terminal only."""
    old = office.make("rotated")
    [link] = [a["href"] for a in section_of(office.page("/connections"), "rotated").all("a") if a.text == "Rotate"]
    path, fields = office.form(office.page(link))
    first, second = (parse_html(office.send(path, fields).text) for _ in range(2))
    assert secret_of(first) == secret_of(second) != secret_of(old)
    assert office.last_action() == (f"key rotate to {id_of(first)}", id_of(old))
    accounts = office.server.access.accounts
    assert accounts.key_with_id(id_of(old)).revoked_at is not None
    assert accounts.key_with_id(id_of(first)).role is Role.INGEST
    assert "was revoked" in office.page(f"/connections/key?id={id_of(old)}").one("main").text


def test_a_key_is_revoked_after_a_question(office: Office) -> None:
    """A click in the wrong row would cut off all workers."""
    key = id_of(office.make("revoked", "viewer"))
    [link] = [a["href"] for a in section_of(office.page("/connections"), "revoked").all("a") if a.text == "Revoke"]
    path, fields = office.form(office.page(link))
    assert office.server.access.accounts.key_with_id(key).revoked_at is None
    for _ in range(2):
        answer = office.send(path, fields)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/connections")
    assert office.server.access.accounts.key_with_id(key).revoked_at is not None
    assert office.last_action() == ("key revoke", key)
    row = section_of(office.page("/connections"), "revoked")
    assert [a.text for a in row.all("a")] == ["revoked"]  # the connection's name; no more buttons


def test_only_operators_who_have_signed_in_make_keys(office: Office) -> None:
    """Whoever may look, or act in one connection, could let himself into all of them."""
    key = id_of(office.make("guarded", "operator"))
    path, fields = office.form(office.page("/connections"))
    form = [*fields, ("connection", "guarded"), ("role", "operator")]
    accounts = office.server.access.accounts
    secret = accounts.create_key(accounts.open_connection("guarded")[0], Role.OPERATOR).secret
    by_key = office.server.client({**HTML, "Authorization": f"Bearer {secret}"}, "")
    before = len(accounts.list_keys())
    nobody = office.server.client(HTML, "")
    for browser, status in ((office.viewer, 403), (by_key, 403), (nobody, 401)):
        assert office.send(path, form, browser).status_code == status
        assert office.send("/connections/revoke", [("id", key)], browser).status_code == status
        for question in (f"rotate?id={key}", f"revoke?id={key}", f"key?id={key}", "log"):
            assert browser.get(f"/connections/{question}").status_code == status
        shown = office.page("/connections", browser)
        assert shown.one("main").all("form") == []
        assert {a.text for a in shown.one("main").all("a")}.isdisjoint({"Rotate", "Revoke"})
    assert office.page("/connections", office.viewer).one("main").all("tbody") == []
    assert len(office.page("/connections", by_key).one("main").all("section")) == 1
    assert len(accounts.list_keys()) == before
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"}
    foreign = office.operator.post(path, content=urlencode(form).encode(), headers=headers)
    assert foreign.status_code == 403


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"connection": " "}, "1 to 255 printable characters"),
        ({"connection": "x" * 256}, "1 to 255 printable characters"),
        ({"connection": "a\0b"}, "1 to 255 printable characters"),
        ({"role": "root"}, "ingest, viewer or operator"),
        ({"secret": "sk_local_short"}, "no new key"),
        ({"rotates": "00000000"}, "there is no key 00000000"),
    ],
)
def test_a_form_that_is_not_valid_is_a_400(office: Office, changed: dict[str, str], part: str) -> None:
    """A connection without a name could not be found again; a key that one can guess is no key."""
    path, fields = office.form(office.page("/connections"))
    before = len(office.server.access.accounts.list_keys())
    answer = office.send(path, list({**dict(fields), "connection": "valid", "role": "ingest", **changed}.items()))
    assert answer.status_code == 400
    assert part in parse_html(answer.text).one("main").text
    assert len(office.server.access.accounts.list_keys()) == before


def test_a_key_that_does_not_exist_is_a_404(office: Office) -> None:
    """An old address would be a failure of the server."""
    for path in ("key", "rotate", "revoke"):
        office.page(f"/connections/{path}?id=none", status=404)
    assert office.send("/connections/revoke", [("id", "none\0")]).status_code == 404


def test_the_log_has_pages(office: Office) -> None:
    """Who revoked a key last month would be out of reach."""
    accounts, audit = office.server.access.accounts, office.server.access.audit
    for _ in range(60):
        office.send(
            "/connections/revoke", [("id", accounts.create_key(accounts.open_connection("log")[0], Role.VIEWER).id)]
        )
    total = len(audit.latest(10_000))
    numbers: list[str] = []
    path: str | None = "/connections/log"
    while path:
        page = office.page(path).one("main")
        numbers += [row["data-key"] for row in page.one("tbody").all("tr")]
        path = next((a["href"] for a in page.all("a", rel="next")), None)
    assert len(set(numbers)) == len(numbers) == total
    first = office.page("/connections/log").one("tbody").all("tr")[0]
    assert first.all("td")[1].text == "key revoke"
    assert first.all("td")[2].text.startswith("session ")


def test_before_the_first_connection(tmp_path: Path) -> None:
    """Whoever has just started the server would see an empty page."""
    office = Office(tmp_path)
    try:
        assert "No connections yet" in office.page("/connections").one("main").text
        assert office.page("/connections").one("main").all("form")
        assert "sluice-agent key create" in office.page("/connections", office.viewer).one("main").text
    finally:
        office.server.stop()
        office.server.join()
