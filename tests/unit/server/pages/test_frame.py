"""What surrounds every page: the layout, assets, errors, sign-in."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import httpx

from sluice_agent.server.access.principal import Role
from tests.support.html import parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.pages.conftest import HTML

PROXIED = {"X-Forwarded-For": "203.0.113.7"}


def test_errors_are_pages_for_browsers_only(browser: httpx.Client, server: LocalSluice) -> None:
    """Who follows an old link would see JSON, and a program that gets a page could not read it."""
    page = browser.get("/nothing")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "No page of this server has this address" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    without = parse_html(browser.get("/jobs?state=none").text).one("main").all("a")[1]
    assert (without["href"], without.text) == ("/jobs", "This page without parameters")
    for path, accept in (("/nothing", "*/*"), ("/api/nothing", "text/html")):
        answer = server.client({"Accept": accept}, path="").get(path)
        assert answer.json()["error"]["code"] == "NOT_FOUND"


def test_a_server_without_the_jobs_api_says_so(browser: httpx.Client, server: LocalSluice) -> None:
    """Who follows a link of the documentation would search for a mistake in the address."""
    for path in ("/runs", "/definitions/new", "/schedules"):
        answer = browser.get(path)
        page = parse_html(answer.text)
        assert (answer.status_code, "sluice-agent serve has it" in page.text) == (404, True)
        assert [link["href"] for link in page.one("main").all("a")][1:] == ["/", "/jobs"]
    assert "sluice-agent serve has it" in server.client(path="/v1").post("/jobs").json()["error"]["message"]


def test_an_address_with_a_slash_too_many_is_unknown(browser: httpx.Client) -> None:
    """Behind a proxy that does TLS, a redirect to the server's own scheme would send a key unencrypted."""
    for path in ("/tasks/", "/settings/", "/api/workers/"):
        assert browser.get(path).status_code == 404


def test_who_may_not_read_learns_how_to_sign_in(browser: httpx.Client) -> None:
    """The jobs of a server that others reach would be open, or the way in unknown."""
    page = browser.get("/jobs", headers=PROXIED)
    assert page.status_code == 401
    assert "sluice-agent key link" in page.text
    assert "www-authenticate" in page.headers


def test_assets_are_kept_as_long_as_they_are_the_same(browser: httpx.Client) -> None:
    """Each page would load its style again, or show the style of an old version."""
    page = browser.get("/jobs").text
    address = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    style = browser.get(address)
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in style.headers["cache-control"]
    assert browser.get("/assets/sluice.css?v=old").headers["cache-control"] == "no-cache"
    assert browser.get(address, headers={"If-None-Match": style.headers["etag"]}).status_code == 304
    assert browser.get("/assets/nothing.css").status_code == 404
    assert browser.get("/assets/..%2frender.py").status_code == 404


def test_the_script_gets_the_content_alone(browser: httpx.Client) -> None:
    """Each change would carry the whole page over the network."""
    part = browser.get("/jobs", headers={"X-Sluice-Part": "main"})
    assert "<h1>Jobs</h1>" in part.text
    assert "<html" not in part.text
    assert part.headers["x-sluice-title"] == "Jobs"


def test_the_script_gets_an_error_as_content_too(browser: httpx.Client) -> None:
    """The page of a job that is removed while somebody looks at it would have a second page inside."""
    part = browser.get("/jobs/removed", headers={"X-Sluice-Part": "main"})
    assert part.status_code == 404
    assert "There is no job with this id" in part.text
    assert "<main" not in part.text
    assert "<title" not in part.text


def test_a_title_has_a_bounded_length(browser: httpx.Client) -> None:
    """A proxy would refuse the answer to the script, whose header is the title, and the tab would show it reversed."""
    parameters = [("name", f"\U0001f600\u202e{number:0>1000}") for number in range(20)]
    part = browser.get("/jobs", params=parameters, headers={"X-Sluice-Part": "main"})
    title = unquote(part.headers["x-sluice-title"])
    assert len(part.headers["x-sluice-title"]) < 4_000
    assert "\\u202e" in title
    page = parse_html(browser.get("/jobs", params=parameters).text)
    assert page.all("title")[0].text == f"{title} · Sluice"


def test_a_connection_that_is_unknown_is_named(browser: httpx.Client) -> None:
    """A link to another server's connection would show an empty page as if nothing had happened."""
    page = browser.get("/jobs", params={"connectionId": "550e8400-e29b-41d4-a716-446655440000"})
    assert page.status_code == 404
    assert "There is no connection with this id" in page.text


def test_responses_are_compressed_for_who_takes_it(server: LocalSluice) -> None:
    """A page of many jobs would be ten times as large on a phone."""
    for accepted, encoding in (("gzip", "gzip"), ("gzip;q=0", None), ("", None)):
        page = server.client({**HTML, "Accept-Encoding": accepted}, path="").get("/jobs")
        assert page.headers.get("content-encoding") == encoding
        assert "<h1>Jobs</h1>" in page.text


def test_a_failure_of_the_server_is_a_page(database: Path) -> None:
    """A browser would show a file of JSON in place of a sentence."""
    with local_sluice(database) as server:
        server.app.add_api_route("/test/fails", lambda: 1 // 0)
        page = server.client(HTML, path="").get("/test/fails")
    assert page.status_code == 500
    assert "its log has the reason" in page.text


def test_a_sign_in_link_leads_to_the_first_page(database: Path) -> None:
    """The token would stay in the address, or the browser on a page that leads nowhere."""
    with local_sluice(database) as server:
        link = f"/login?token={server.access.sessions.create_token(Role.VIEWER)}"
        browser = server.client({**HTML, **PROXIED}, path="")
        answer = parse_html(browser.get(link).text)
        (refresh,) = answer.all("meta", http_equiv="refresh")
        assert refresh["content"] == "0; url=/"
        page = parse_html(browser.get("/jobs").text)
        (form, *_) = page.all("form", action="/logout")
        assert form.text == "Signed in as viewer Sign out"
        assert form["method"] == "post"
        out = browser.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})
        assert "Signed out" in out.text
        assert browser.get("/jobs").status_code == 401
        used = browser.get(link)
        assert used.status_code == 401
        assert "was used" in used.text
