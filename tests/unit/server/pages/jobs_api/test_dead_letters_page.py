"""Dead letters, and their replay: of a selection, and of all that match."""

from __future__ import annotations

import pytest

from sluice_agent.jobs.runs import replays
from tests.support.html import Element
from tests.unit.server.pages.jobs_api.conftest import JobsDesk, form_of, rows_of

PATH = "/dead-letters/replay"
REPLAYS = "/dead-letters/replays"


def test_only_dead_letters_are_listed(desk: JobsDesk) -> None:
    """What needs a decision would be hidden among what has ended well."""
    page = desk.page("/dead-letters")
    assert {row["data-key"] for row in rows_of(page)} == {desk.runs["dead_letter"], desk.runs["hostile"]}
    assert page.one("h1").text == "Dead letters 2"
    assert len(rows_of(desk.page("/dead-letters", status="completed"))) == 2


def test_a_selection_is_replayed_once(desk: JobsDesk) -> None:
    """Each would have to be opened and replayed alone; or a double click would replay again what fails at once."""
    ids = desk.shop.dead_letters(desk.store, 3)
    assert "Nothing is selected" in desk.page(PATH, 409, isSelection="true").one("main").text
    question = desk.page(PATH, run=ids[:2], isSelection="true")
    assert question.one("h1").text == "Replay 2 dead letters?"
    fields = form_of(question, REPLAYS)
    sent = [desk.send(REPLAYS, fields).headers["location"] for _ in range(2)]
    assert sent[0] == sent[1]
    _go_on(desk)
    assert desk.page(sent[0]).one("h1").text == "Replay 2 dead letters of a selection"
    assert [desk.run(id_)["status"] for id_ in ids] == ["queued", "queued", "dead_letter"]
    desk.shop.die(desk.store, ids[:2])
    assert desk.send(REPLAYS, fields).headers["location"] == sent[0]
    _go_on(desk)
    assert desk.run(ids[0])["status"] == "dead_letter"
    assert desk.send(PATH.replace("replay", "replays"), [*fields[:-1], ("token", "none")]).status_code == 400


def test_how_far_a_replay_is_and_how_it_is_stopped(desk: JobsDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage of an endpoint thousands would have to be selected, page by page; or nobody would know how far
    they are, or could stop them."""
    ids = desk.shop.dead_letters(desk.store, 7)
    href = _replay_all(desk.page("/dead-letters", job_id=desk.shop.mail))
    question = desk.page(href)
    assert question.one("h1").text.endswith("dead letters of Send mail?")
    page = desk.send(REPLAYS, form_of(question, REPLAYS)).headers["location"]
    other = desk.send(REPLAYS, form_of(desk.page(href), REPLAYS)).headers["location"]
    assert _notices(desk.page(other)) == ["It waits: replays take turns, and an earlier one goes on."]
    monkeypatch.setattr(replays, "MOST", 5)
    _go_on(desk)
    begun = desk.page(page)
    assert begun.one("main").one("p", role="status").text.startswith("Running: 5 of ")
    assert _notices(begun) == []
    assert "goes on: 5 of " in _notices(desk.page("/dead-letters"))[-1]
    assert desk.page(page, browser=desk.viewer).all("button", class_="danger") == []
    stop = begun.one("form", action=f"{page}/stop")
    for _ in range(2):
        assert desk.send(stop["action"]).headers["location"] == page
    assert desk.page(page).one("main").one("p", role="status").text == "Stopped"
    assert sorted(desk.run(id_)["status"] for id_ in ids) == ["dead_letter"] * 2 + ["queued"] * 5
    states = [row.all("td")[1].text for row in rows_of(desk.page(REPLAYS))]
    assert states == ["running", "stopped", "done"]
    desk.send(f"{other}/stop")
    desk.page(f"{REPLAYS}/none", 404)


def test_why_one_did_not_go_is_named(desk: JobsDesk) -> None:
    """Who has replayed a thousand would take all for done."""
    ids = desk.shop.dead_letters(desk.store, 2)
    question = desk.page(PATH, run=ids)
    desk.api.post("/jobs/batch-disable", json={"ids": [desk.shop.mail]})
    try:
        answer = desk.send(REPLAYS, form_of(question, REPLAYS))
        _go_on(desk)
        [row] = rows_of(desk.page(answer.headers["location"]))
        assert row.text.startswith("The job is disabled: enable it first.2")
    finally:
        desk.api.post("/jobs/batch-enable", json={"ids": [desk.shop.mail]})


def test_only_operators_replay(desk: JobsDesk) -> None:
    """Whoever may look could send a thousand mails again."""
    assert desk.send(REPLAYS, [("run", desk.runs["hostile"])], desk.viewer).status_code == 403
    page = desk.page("/dead-letters", browser=desk.viewer)
    assert page.all("input", type="checkbox") == []
    assert [link.text for link in page.all("a") if link.text.startswith("Replay ")] == []


def test_an_empty_list_says_what_comes_here(desk: JobsDesk) -> None:
    """An empty page looks like a fault."""
    page = desk.page("/dead-letters", search="there is none")
    assert page.one("div", class_="empty").one("h2").text == "Nothing matches"


def _replay_all(page: Element) -> str:
    [href] = [link["href"] for link in page.all("a") if link.text.startswith("Replay all")]
    return href


def _notices(page: Element) -> list[str]:
    return [text.text for text in page.all("p") if "notice" in text.attributes.get("class", "")]


def _go_on(desk: JobsDesk) -> None:
    """Go on as the engine does."""
    with desk.store.writing() as writer:
        replays.go_on(writer, desk.store.moment)
