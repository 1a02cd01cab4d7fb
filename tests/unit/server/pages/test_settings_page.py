"""The page of settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from sluice_agent.server.access.principal import COOKIE, Role
from sluice_agent.server.store.retention import Keep
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.events import at, ingest, job_event
from tests.unit.server.pages.conftest import HTML


def settings(server: LocalSluice, headers: Mapping[str, str]) -> Element:
    return parse_html(server.client({**HTML, **headers}, path="").get("/settings").text)


def facts(page: Element) -> dict[str, str]:
    return {one.one("dt").text: one.one("dd").text for one in page.all("div") if one.all("dt") and not one.all("dl")}


def signed_in(server: LocalSluice, role: Role) -> dict[str, str]:
    session = server.access.sessions.sign_in(server.access.sessions.create_token(role))
    assert session is not None
    return {"Cookie": f"{COOKIE}={session[1]}"}


def test_what_is_kept_is_shown(database: Path) -> None:
    """Who looks for an old job would not know that it can't be there any more."""
    with local_sluice(database, keep=Keep(timedelta(days=9_999), 5_000_000_000), daily_limit=1_000) as server:
        ended = job_event("completed", 5, completedAt=at(5), createdAt=at(1))
        ingest(server.client(), ended)
        shown = facts(settings(server, {}))
    assert shown["Finished jobs"] == "9999 days"
    assert shown["Size limit"] == "5 GB"
    assert shown["Oldest job that has ended"] == "2026-02-27 10:00:01 UTC"
    assert shown["Jobs"] == "1"
    assert shown["Received"] == "1"
    assert shown["Daily limit"] == "1,000"
    assert shown["Size of the database"].endswith("kB, SQLite")


def test_a_new_server_has_settings_too(database: Path) -> None:
    """The page could not be opened before the first event, when one sets the server up."""
    with local_sluice(database) as server:
        shown = facts(settings(server, {}))
    assert shown["Finished jobs"] == "for ever"
    assert shown["Oldest job that has ended"] == "–"
    assert "Received" not in shown


def test_only_operators_see_the_sessions_of_others(database: Path) -> None:
    """An operator could not find a browser that must be signed out; a viewer need not know who else is there."""
    with local_sluice(database) as server:
        operator, viewer = signed_in(server, Role.OPERATOR), signed_in(server, Role.VIEWER)
        seen = {
            role: settings(server, headers).one("tbody").all("tr") for role, headers in (("o", operator), ("v", viewer))
        }
        assert [row.all("td")[1].text for row in seen["o"]] == ["operator", "viewer"]
        assert ["this browser" in row.text for row in seen["o"]] == [True, False]
        assert [row.all("td")[1].text for row in seen["v"]] == ["viewer"]
        assert "Read only, not signed in" in settings(server, {}).one("main").text
        key = server.access.accounts.create_key(server.access.accounts.open_connection("shop")[0], Role.OPERATOR)
        of_key = settings(server, {"Authorization": f"Bearer {key.secret}"})
        assert not of_key.one("main").all("tbody")  # a key is of one connection, and sessions are of all
