"""The page of a canvas, over a real server: the tree, and the members of a branch."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import event

from sluice_agent.server.pages.canvas import PAGE
from sluice_agent.server.pages.canvas_tree import MOST_JOBS, SMALL
from tests.support.html import Element
from tests.support.local_sluice import LocalSluice
from tests.unit.server.events import at, ingest, job_event
from tests.unit.server.pages.conftest import Page


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    return server.client()


def member(
    external_id: str,
    root: str,
    parent: str | None = None,
    group: str | None = None,
    *,
    end: str = "completed",
    seconds: float = 3,
) -> dict[str, Any]:
    """Return the end of a job with its position in a canvas; its task is called after it."""
    extensions = {"rootId": root, "parentId": parent, "groupId": group}
    known = {name: value for name, value in extensions.items() if value is not None}
    error = {"error": f"ValueError: {external_id}"} if end == "failed" else {}
    times = {"createdAt": at(0), "startedAt": at(1), "completedAt": at(seconds)}
    return job_event(
        end, seconds, externalId=external_id, name=f"app.{external_id}", extensions=known, **times, **error
    )


def rows(page: Element) -> list[tuple[int, str]]:
    """Return the depth and the first link of each row."""
    found = []
    for row in page.one("table", class_="list canvas").one("tbody").all("tr"):
        cell = row.all("td")[0]
        depth = next(int(name[-1]) for name in row["class"].split() if name.startswith("depth-"))
        found.append((depth, cell.all("a")[0].text.removeprefix("app.")))
    return found


def id_of(client: httpx.Client, external_id: str) -> str:
    return str(client.get("/jobs", params={"search": external_id}).json()["data"][0]["id"])


def test_a_tree(page: Page, client: httpx.Client) -> None:
    """Who looks for what a job has set off would have to follow ids through lists."""
    ingest(
        client,
        member("root", "root"),
        member("check", "root", "root"),
        member("store", "root", "check"),
        member("report", "root", "store"),
        member("one", "root", "root", "g", end="failed"),
        member("two", "root", "root", "g"),
        member("body", "root", "two"),
    )
    shown = page("/canvas", rootId="root")
    chain, group = [(1, "check"), (1, "store"), (1, "report")], [(2, "one"), (2, "two"), (2, "body")]
    assert rows(shown) == [(0, "root"), *chain, (1, "2 jobs"), *group]
    assert shown.all("title")[0].text == "Canvas · 1 failed of 7 · Sluice"
    assert "ValueError: one" in shown.one("main").text
    part = page("/canvas", **{"rootId": "root", "from": id_of(client, "check")})
    assert rows(part) == [(0, "check"), (0, "store"), (0, "report")]
    assert "Only what app.check has published" in part.one("main").text


def test_a_root_that_is_gone_with_many_groups_takes_few_queries(
    page: Page, client: httpx.Client, server: LocalSluice
) -> None:
    """A page of ten jobs would take seconds, as each group of the canvas was read."""
    ingest(client, *(member(f"w{n}", "gone-root", "gone-root", f"group-{n}") for n in range(100)))
    statements: list[str] = []
    engine = server.app.state.store.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    shown = page("/canvas", rootId="gone-root")
    event.remove(engine, "before_cursor_execute", note)
    assert "The root job is not here" in shown.one("main").text
    assert 0 < len(statements) < 60


def test_a_job_below_itself_is_shown_once(page: Page, client: httpx.Client) -> None:
    """One event with a wrong parent would make a page of which the server writes rows until its memory is full."""
    ingest(client, member("own", "own", "own"))
    ingest(client, member("first", "first", "second"), member("second", "first", "first"))
    grouped = [member(f"loop{n}", "loop0", f"loop{max(0, n - 1)}", "loop-g") for n in range(3)]
    ingest(client, *grouped)
    assert rows(page("/canvas", rootId="own")) == [(0, "own")]
    assert rows(page("/canvas", rootId="first")) == [(0, "first"), (0, "second")]
    shown = [name for _, name in rows(page("/canvas", rootId="loop0"))]
    assert [name for name in shown if name.startswith("loop")] == ["loop0", "loop1", "loop2"]
    part = page("/canvas", **{"rootId": "first", "from": id_of(client, "second")})
    assert rows(part) == [(0, "second"), (0, "first")]


def test_what_failed_in_a_large_group_is_unfolded_first(page: Page, client: httpx.Client) -> None:
    """Of ten thousand members, the one that failed would be on page fifty, and what it had published nowhere."""
    many = [member(f"m{n}", "big", "big", "big-g", end="failed" if n == 300 else "completed") for n in range(400)]
    ingest(client, member("big", "big"), *many)
    ingest(client, member("deep", "big", "m7"), member("deeper", "big", "deep", end="failed"))
    ingest(client, member("big-body", "big", "m399", seconds=9))
    found = rows(page("/canvas", rootId="big"))
    assert found[:2] == [(0, "big"), (1, "400 jobs")]
    assert (2, "m300") in found
    position = found.index((2, "m7"))
    assert found[position : position + 3] == [(2, "m7"), (2, "deep"), (2, "deeper")]
    assert found[found.index((2, "m399")) + 1] == (2, "big-body")
    assert found[-1][1].endswith(" more")
    assert len(found) < 20
    failed, completed = page("/canvas", rootId="big").all("svg", class_="share")[0].all("rect")  # 2 of 404 are failed
    assert (failed["class"], failed["width"], completed["x"]) == ("state-failed", "0.99%", "0.99%")


def test_all_members_can_be_reached(page: Page, client: httpx.Client) -> None:
    """The members that a tree leaves out would be out of reach."""
    size = 2 * PAGE + 50
    group = [
        member(f"p{n}", "paged", "paged", "paged-g", end="failed" if n == 200 else "completed") for n in range(size)
    ]
    ingest(client, member("paged", "paged"), *group)
    ingest(client, member("after", "paged", "p3"))
    first = page("/canvas", groupId="paged-g")
    following, members = first.all("table", class_="list canvas")
    assert [link.text for link in following.all("a")] == ["app.after"]
    second = page(first.one("a", rel="next")["href"])
    third = page(second.one("a", rel="next")["href"])
    assert not third.all("a", rel="next")
    tables = [members, *(further.one("table", class_="list canvas") for further in (second, third))]
    names = [row.all("a")[0].text for table in tables for row in table.one("tbody").all("tr")]
    assert names[0] == "app.p200"
    assert sorted(names) == sorted(f"app.p{n}" for n in range(size))
    assert "No members on this page" in page("/canvas", groupId="paged-g", page=9).one("main").text


def test_many_children_without_a_group_are_folded_too(page: Page, client: httpx.Client) -> None:
    """A task that publishes a thousand others would make a page that no browser can show."""
    ingest(client, member("fan", "fan"), *(member(f"f{n}", "fan", "fan") for n in range(SMALL + 30)))
    found = rows(page("/canvas", rootId="fan"))
    assert found[1] == (1, f"{SMALL + 30} jobs")
    assert found[-1] == (2, "35 more")


def test_a_long_chain_goes_on_from_where_the_page_ends(page: Page, client: httpx.Client) -> None:
    """A chain of a thousand steps would be cut, or take seconds."""
    ingest(client, *(member(f"s{n}", "s0", f"s{n - 1}" if n else None) for n in range(MOST_JOBS + 50)))
    shown = page("/canvas", rootId="s0")
    found = rows(shown)
    assert [name for _, name in found] == [f"s{n}" for n in range(len(found))]
    _, onward = shown.one("table", class_="list canvas").one("tbody").all("tr")[-1].all("a")
    assert onward.text == "published 1"
    assert rows(page(onward["href"]))[0][1] == found[-1][1]


def test_a_group_that_no_job_published(page: Page, client: httpx.Client) -> None:
    """Each member is its own root then: the page of one would look as if it had been alone."""
    ingest(client, *(member(f"lone{n}", f"lone{n}", None, "lone-g") for n in range(3)))
    assert "one of 3 members of a group" in page("/canvas", rootId="lone0").one("main").text
    assert len(rows(page("/canvas", groupId="lone-g"))) == 3


def test_what_is_not_known_is_reported(page: Page, client: httpx.Client) -> None:
    """A tree with a hole would look whole."""
    ingest(client, member("child", "gone", "gone"), member("lost", "gone", "removed"))
    shown = page("/canvas", rootId="gone")
    assert rows(shown) == [(0, "child")]
    assert "The root job is not here" in shown.one("main").text
    assert "1 further job has this root" in shown.one("main").text
    assert "removed by age and size" in page("/canvas", status=404, rootId="never").one("main").text
    assert "removed by age and size" in page("/canvas", status=404, groupId="never").one("main").text
    assert "rootId" in page("/canvas", status=400).one("main").text


def test_hostile_ids_stay_texts(page: Page, client: httpx.Client) -> None:
    """The id of a group is any text of whoever publishes jobs."""
    evil = '"><script>alert(1)</script>\u202e&#'
    ingest(client, member(evil, evil), member("e1", evil, evil, evil, end="failed"))
    for shown in (page("/canvas", rootId=evil), page("/canvas", groupId=evil)):
        assert not [one for one in shown.all("script") if "src" not in one.attributes]
        assert "\u202e" not in shown.text
