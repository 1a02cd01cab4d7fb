"""Dead letters, and their replay: of a selection, and of all that match."""

from __future__ import annotations

import pytest

from sluice_agent.server.pages.jobs_api import dead_letters
from tests.support.html import parse_html
from tests.unit.server.pages.jobs_api.conftest import JobsDesk, form_of, rows_of

PATH = "/dead-letters/replay"


def test_only_dead_letters_are_listed(desk: JobsDesk) -> None:
    """What needs a decision would be hidden among what has ended well."""
    page = desk.page("/dead-letters")
    assert {row["data-key"] for row in rows_of(page)} == {desk.runs["dead_letter"], desk.runs["hostile"]}
    assert page.one("h1").text == "Dead letters 2"
    assert len(rows_of(desk.page("/dead-letters", status="completed"))) == 2


def test_a_selection_is_replayed(desk: JobsDesk) -> None:
    """Each would have to be opened and replayed alone."""
    ids = desk.shop.dead_letters(desk.store, 3)
    question = desk.page(PATH, run=ids[:2])
    assert question.one("h1").text == "Replay 2 dead letters?"
    answer = desk.send(PATH, form_of(question, PATH))
    assert parse_html(answer.text).one("h1").text == "2 dead letters replayed"
    assert [desk.run(id_)["status"] for id_ in ids] == ["queued", "queued", "dead_letter"]
    again = parse_html(desk.send(PATH, form_of(question, PATH)).text)
    assert again.one("h1").text == "0 dead letters replayed"
    [row] = rows_of(again)
    assert ids[0][:8] in row.text


def test_all_that_match_are_replayed(desk: JobsDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage of an endpoint thousands would have to be selected, page by page."""
    ids = desk.shop.dead_letters(desk.store, 7)
    others = desk.runs["hostile"]
    page = desk.page("/dead-letters", job_id=desk.shop.mail)
    [href] = [link["href"] for link in page.all("a") if link.text.startswith("Replay all")]
    question = desk.page(href)
    assert question.one("h1").text.endswith("dead letters of Send mail?")
    fields = form_of(question, PATH)
    monkeypatch.setattr(dead_letters, "_MOST", 5)
    first = parse_html(desk.send(PATH, fields).text)
    assert first.one("h1").text == "5 dead letters replayed"
    assert "further dead letters match" in first.one("main").text
    monkeypatch.undo()
    later = desk.shop.dead_letters(desk.store, 1)
    desk.send(PATH, fields)
    assert {desk.run(id_)["status"] for id_ in ids} == {"queued"}
    assert desk.run(others)["status"] == "dead_letter"
    assert later


def test_what_fails_again_is_not_replayed_by_the_same_form(desk: JobsDesk) -> None:
    """A form that is sent twice would run again what has failed in between."""
    question = desk.page(PATH, job_id=desk.shop.mail)
    fields = [pair for pair in form_of(question, PATH) if pair[0] != "ended_before"]
    [run] = desk.shop.dead_letters(desk.store, 1)
    desk.send(PATH, [*fields, ("ended_before", "2020-01-01T00:00:00Z")])
    assert desk.run(run)["status"] == "dead_letter"
    assert desk.send(PATH, fields).status_code == 400


def test_why_one_did_not_go_is_named(desk: JobsDesk) -> None:
    """Who has replayed a thousand would take all for done."""
    ids = desk.shop.dead_letters(desk.store, 2)
    desk.api.post("/jobs/batch-disable", json={"ids": [desk.shop.mail]})
    try:
        page = parse_html(desk.send(PATH, [("run", id_) for id_ in ids]).text)
        [row] = rows_of(page)
        assert row.text.startswith("The job is disabled: enable it first.2")
    finally:
        desk.api.post("/jobs/batch-enable", json={"ids": [desk.shop.mail]})


def test_only_operators_replay(desk: JobsDesk) -> None:
    """Whoever may look could send a thousand mails again."""
    assert desk.send(PATH, [("run", desk.runs["hostile"])], desk.viewer).status_code == 403
    page = desk.page("/dead-letters", browser=desk.viewer)
    assert page.all("input", type="checkbox") == []
    assert [link for link in page.all("a") if link.text.startswith("Replay")] == []


def test_an_empty_list_says_what_comes_here(desk: JobsDesk) -> None:
    """An empty page looks like a fault."""
    page = desk.page("/dead-letters", search="there is none")
    assert page.one("div", class_="empty").one("h2").text == "Nothing matches"
