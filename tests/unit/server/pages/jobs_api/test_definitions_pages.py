"""Definitions of jobs: listed, shown, made, changed, switched and triggered from their pages."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.html import Element, parse_html
from tests.support.jobs_shop import PAYLOAD, PROJECT
from tests.unit.server.pages.jobs_api.conftest import Fields, JobsDesk, form_of, rows_of


def texts_of(form: Element) -> dict[str, str]:
    """Return what a browser would send of a form that nobody has touched."""
    texts: dict[str, str] = {}
    for field in form.all("input"):
        kind = field.attributes.get("type", "text")
        if "name" in field.attributes and (kind != "checkbox" or "checked" in field.attributes):
            texts[field["name"]] = field.attributes.get("value", "")
    for area in form.all("textarea"):
        texts[area["name"]] = "".join(map(str, area.children)).removeprefix("\n").replace("\n", "\r\n")
    for choice in form.all("select"):
        options = choice.all("option")
        selected = [option for option in options if "selected" in option.attributes] or options[:1]
        texts[choice["name"]] = selected[0].attributes.get("value", selected[0].text)
    return texts


def edit(desk: JobsDesk, job: str, **changes: str) -> tuple[Element, int]:
    """Open the form of a job, change fields, and return the page that follows, with its status."""
    path = f"/definitions/{job}/edit"
    fields = texts_of(desk.page(path).one("form", action=path)) | changes
    answer = desk.send(path, list(fields.items()))
    return parse_html(answer.text), answer.status_code


def job(desk: JobsDesk, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = desk.api.get(f"/jobs/{job_id}").json()
    return found


def test_jobs_are_listed_and_searched(desk: JobsDesk) -> None:
    """Among two hundred jobs one would not find one's own."""
    names = [row.one("td", class_="main").one("a").text for row in rows_of(desk.page("/definitions"))]
    assert {"Send mail", "Nightly report", "Old import"} <= set(names)
    [row] = rows_of(desk.page("/definitions", search="NIGHTLY"))
    assert "30 2 * * *" in row.text
    assert rows_of(desk.page("/definitions", search="example.com")) == []  # in settings, but not in a name
    assert "No such job" in desk.page("/definitions", search="none at all").one("main").text


def test_a_job_is_shown_in_words(desk: JobsDesk) -> None:
    """Thirty settings of JSON would have to be read."""
    page = desk.page(f"/definitions/{desk.shop.mail}")
    text = page.one("main").text
    assert "POST https://mail.example.com/hooks/send" in text
    assert "a secret of the shop" not in text
    assert "dead letter 2" not in text
    assert "of 100" in text  # the score of its health
    report = desk.page(f"/definitions/{desk.shop.report}").one("main").text
    assert "the last run of Send mail to have completed" in report
    assert "Next firings" in report


def test_a_change_is_shown_before_it_is_made(desk: JobsDesk) -> None:
    """A typing error in a URL would be live before anybody has seen it."""
    made = desk.shop.plain("to edit")
    review, status = edit(desk, made, max_attempts="7", description="New")
    assert status == 200
    assert review.one("h1").text == "Version 2 would change"
    assert "3 →becomes 7" in review.one("main").text
    assert job(desk, made)["version"] == 1
    path = f"/definitions/{made}/save"
    fields = form_of(review, path)
    for _ in range(2):  # a form that is sent twice makes one version
        answer = desk.send(path, fields)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/definitions/{made}")
    found = job(desk, made)
    assert (found["version"], found["max_attempts"], found["description"]) == (2, 7, "New")
    assert found["updated_by"].startswith("session:")


def test_a_change_of_another_one_meanwhile_is_not_lost(desk: JobsDesk) -> None:
    """Who saves last would undo what a colleague has just done, or would have to begin again."""
    made = desk.shop.plain("of two")
    review, _ = edit(desk, made, max_attempts="7")
    desk.shop.change(made, timeout_secs=9)
    path = f"/definitions/{made}/save"
    answer = desk.send(path, form_of(review, path))
    assert answer.status_code == 409
    page = parse_html(answer.text)
    assert "got version 2 since" in page.one("main").text
    assert page.one("h1").text == "Version 3 would change"
    assert "3 →becomes 7" in page.one("main").text
    found = job(desk, made)
    assert (found["max_attempts"], found["timeout_secs"]) == (3, 9)
    desk.send(path, form_of(page, path))
    found = job(desk, made)
    assert (found["max_attempts"], found["timeout_secs"], found["version"]) == (7, 9, 3)


def test_what_was_typed_outlives_its_job(desk: JobsDesk) -> None:
    """Who has typed for ten minutes would see that somebody has deleted the job, and have nothing left."""
    made = desk.shop.plain("deleted meanwhile")
    edited, trigger = f"/definitions/{made}/edit", f"/definitions/{made}/trigger"
    fields = texts_of(desk.page(edited).one("form", action=edited)) | {"description": "<b>Long"}
    payload = [("token", str(uuid4())), ("payload", '{"a": "<i>"}')]
    desk.send(f"/definitions/{made}/delete")
    page = parse_html(desk.send(edited, list(fields.items())).text)
    assert "The job was deleted" in page.one("div", role="alert").text
    again = texts_of(page.one("form", action="/definitions/new"))
    assert (again["description"], again["slug"]) == ("<b>Long", fields["slug"])
    answer = desk.send(trigger, payload)
    assert answer.status_code == 404
    [typed] = parse_html(answer.text).one("dl").all("dd")
    assert typed.text == '{"a": "<i>"}'
    assert "another tab" in desk.send(trigger, payload, desk.stranger).text


def test_edit_further_keeps_what_was_typed(desk: JobsDesk) -> None:
    """A change that is almost right would have to be typed again."""
    made = desk.shop.plain("further")
    review, _ = edit(desk, made, description="<b>\r\nx", tags='{"a": "b"}')
    fields = form_of(review, f"/definitions/{made}/save")
    page = parse_html(desk.send(f"/definitions/{made}/edit", fields).text)
    texts = texts_of(page.one("form", action=f"/definitions/{made}/edit"))
    assert (texts["description"], texts["tags"]) == ("<b>\r\nx", '{"a":"b"}')


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cron": "* * *"}, "Cron expression: "),
        ({"max_attempts": "x"}, "Attempts at most: must be a whole number"),
        ({"max_attempts": "x", "endpoint_url": "ftp://x"}, "Endpoint: "),
        ({"payload_schema": "{"}, "Payload schema"),
        ({}, "Nothing is changed."),
    ],
)
def test_what_is_wrong_is_named_and_nothing_typed_is_lost(desk: JobsDesk, changes: dict[str, str], reason: str) -> None:
    """Thirty fields would be empty again."""
    page, status = edit(desk, desk.shop.off, **changes)
    assert status == 400
    assert reason in page.one("div", role="alert").text
    texts = texts_of(page.one("form", action=f"/definitions/{desk.shop.off}/edit"))
    assert {name: texts[name] for name in changes} == changes


def test_a_job_is_made(desk: JobsDesk) -> None:
    """A new user would have to write JSON for the first job."""
    path = "/definitions/new"
    fields = texts_of(desk.page(path, project=PROJECT).one("form", action=path))
    assert fields["project_id"] == PROJECT
    fields |= {"name": "Made here", "slug": "made-here", "endpoint_url": "https://example.com/", "cron": "0 9 * * 1-5"}
    answer = desk.send(path, list(fields.items()))
    assert answer.status_code == 303
    made = job(desk, answer.headers["Location"].removeprefix("/definitions/"))
    assert (made["name"], made["cron"], made["version"], made["max_attempts"]) == ("Made here", "0 9 * * 1-5", 1, 3)
    again = parse_html(desk.send(path, list(fields.items())).text)
    assert "slug made-here already" in again.one("div", role="alert").text
    assert texts_of(again.one("form", action=path))["cron"] == "0 9 * * 1-5"


def test_versions_are_compared(desk: JobsDesk) -> None:
    """What changed before it broke would be a search in two JSON texts."""
    [second, first] = rows_of(desk.page(f"/definitions/{desk.shop.mail}/versions"))
    assert "Description, Attempts at most" in second.text
    page = desk.page(f"/definitions/{desk.shop.mail}/versions/{second['data-key']}")
    assert "What differs from version 1" in page.one("main").text
    assert "3 →becomes 5" in page.one("main").text
    back = desk.page(f"/definitions/{desk.shop.mail}/versions/{first['data-key']}", against=second["data-key"])
    assert "5 →becomes 3" in back.one("main").text
    assert desk.page(f"/definitions/{desk.shop.mail}/versions/ver_none", 404).one("h1").text


@pytest.mark.parametrize(("action", "undo"), [("disable", "enable"), ("pause", "resume")])
def test_a_job_is_switched_after_a_question(desk: JobsDesk, action: str, undo: str) -> None:
    """One click would stop what customers wait for."""
    made = desk.shop.plain(action)
    path = f"/definitions/{made}/{action}"
    assert path in [
        link["href"] for link in desk.page(f"/definitions/{made}").all("a") if "data-ask" in link.attributes
    ]
    assert desk.page(path).one("h1").text == f"{action.capitalize()} {action}?"
    assert desk.send(path).status_code == 303
    found = job(desk, made)
    assert found["enabled"] is (action != "disable")
    assert ("paused_at" in found) is (action == "pause")
    assert f"{action}d" in desk.page(f"/definitions/{made}").one("h1").text
    assert desk.send(f"/definitions/{made}/{undo}").status_code == 303
    assert job(desk, made)["version"] == 1


def test_a_job_is_deleted_after_a_question(desk: JobsDesk) -> None:
    """A job that nobody needs would stay in each list; or one click would take the runs of a year along."""
    made, other = desk.shop.plain("to-delete"), desk.shop.plain("stays")
    run = desk.shop.trigger(made)
    path = f"/definitions/{made}/delete"
    question = desk.page(path)
    assert "It has 1 run that has not ended" in question.one("main").text
    assert question.all("button", class_="danger") == []
    assert desk.send(path).status_code == 409
    desk.api.delete(f"/runs/{run}")
    question = desk.page(path)
    assert question.one("h1").text == "Delete to-delete?"
    assert "Its 1 run and all of its versions" in question.one("main").text
    for _ in range(2):  # a form that is sent twice acts once
        assert desk.send(path, form_of(question, path)).headers["Location"] == "/definitions"
    for gone in (f"/definitions/{made}", f"/definitions/{made}/edit", f"/runs/{run}", path):
        page = desk.page(gone, 404)
        assert "it was deleted" in page.one("main").text
        assert [link["href"] for link in page.one("main").all("a", class_="button")] == ["/runs", "/definitions"]
    assert desk.page(f"/definitions/{other}").one("h1").text == "stays enabled"


def test_a_job_is_cloned(desk: JobsDesk) -> None:
    """A second job that differs in one setting would have to be typed anew."""
    made = desk.shop.plain("source", cron="0 9 * * *", tags={"team": "shop"})
    path = f"/definitions/{made}/clone"
    fields = texts_of(desk.page(path).one("form", action=path))
    assert fields == {"name": "source 2", "slug": "source-2"}
    places = {desk.send(path, list(fields.items())).headers["Location"] for _ in range(2)}
    [place] = places  # a form that is sent twice makes one
    found = job(desk, place.removeprefix("/definitions/"))
    assert (found["slug"], found["cron"], found["tags"], found["enabled"]) == (
        "source-2", "0 9 * * *", {"team": "shop"}, False,
    )  # fmt: skip
    assert texts_of(desk.page(path).one("form", action=path))["slug"] == "source-3"
    again = desk.send(path, [("name", "Another"), ("slug", "source-2"), ("enabled", "yes")])
    page = parse_html(again.text)
    assert "slug source-2 already" in page.one("div", role="alert").text
    assert texts_of(page.one("form", action=path)) == {"name": "Another", "slug": "source-2", "enabled": "yes"}


def test_dependencies_are_added_and_removed(desk: JobsDesk) -> None:
    """Which job waits for which could be changed by programs only; or a circle of jobs would wait for ever."""
    first, second = desk.shop.plain("first"), desk.shop.plain("second")
    path = f"/definitions/{second}/dependencies"
    slugs = [option["value"] for option in desk.page(path).one("datalist").all("option")]
    assert "first" in slugs
    assert "second" not in slugs
    for _ in range(2):  # a form that is sent twice adds one
        assert desk.send(path, [("slug", "first"), ("condition", "any")]).headers["Location"] == path
    [row] = rows_of(desk.page(path))
    assert "firsthave ended, however" in row.text
    assert "Waits for the last run of first to have ended, however." in desk.page(f"/definitions/{second}").text
    assert "second waits for its last run to have ended, however." in desk.page(f"/definitions/{first}").text
    for sent, reason in (
        ("second", "it would wait for itself"),
        ("first", "a job can't depend on itself"),
        ("none", "The project has no job with the slug none."),
        ("", "Which job?"),
    ):
        answer = desk.send(f"/definitions/{first}/dependencies", [("slug", sent), ("condition", "failed")])
        page = parse_html(answer.text)
        assert reason in page.one("div", role="alert").text
        form = page.one("form", action=f"/definitions/{first}/dependencies")
        assert texts_of(form) == {"slug": sent, "condition": "failed"}
    [link] = [link["href"] for link in row.all("a") if link.text == "Remove"]
    assert desk.page(link).one("h1").text == "Let second wait no longer for first?"
    for _ in range(2):
        assert desk.send(link).headers["Location"] == path
    assert rows_of(desk.page(path)) == []
    assert desk.page(link, 404).one("h1").text


def trigger(desk: JobsDesk, job_id: str, fields: dict[str, str], query: str = "") -> Any:
    path = f"/definitions/{job_id}/trigger"
    sent = texts_of(desk.page(path + query).one("form", action=path)) | fields
    return desk.send(path, list(sent.items()))


def test_a_run_is_triggered_by_a_form_of_its_schema(desk: JobsDesk) -> None:
    """One would have to know the schema, and to type JSON without a fault."""
    fields = {"payload/to": "ann@example.com", "payload/template": '"receipt"', "payload/values/name": "Ann"}
    answer = trigger(desk, desk.shop.mail, {**fields, "do": "trigger", "priority": "7", "tags": '{"a": "b"}'})
    assert answer.status_code == 303
    run = desk.run(answer.headers["Location"].removeprefix("/runs/"))
    assert run["payload"] == {**PAYLOAD, "copies": 1, "is_test": False}
    assert (run["priority"], run["tags"]["a"], run["triggered_by"]) == (7, "b", "manual")


def test_a_trigger_that_is_sent_twice_makes_one_run(desk: JobsDesk) -> None:
    """A double click would send two invoices."""
    made = desk.shop.plain("twice")
    path = f"/definitions/{made}/trigger"
    fields: Fields = list(texts_of(desk.page(path).one("form", action=path)).items())
    places = {desk.send(path, fields).headers["Location"] for _ in range(3)}
    assert len(places) == 1
    assert len(rows_of(desk.page("/runs", job_id=made))) == 1


def test_a_dry_run_makes_nothing(desk: JobsDesk) -> None:
    """To see whether a payload fits, one would have to send it."""
    made = desk.shop.plain("dry")
    answer = trigger(desk, made, {"payload": '{"a": 1.50}', "scheduled_at": "2026-01-01T00:00", "do": "dry-run"})
    assert "scheduled_at: is in the past" in parse_html(answer.text).one("div", role="alert").text
    page = parse_html(trigger(desk, made, {"payload": '{"a": 1.50}', "do": "dry-run"}).text)
    notice = page.one("div", role="status").text
    assert "It fits." in notice
    assert '"a": 1.50' in notice
    assert page.one("textarea", name="payload").text == '{"a": 1.50}'
    assert rows_of(desk.page("/runs", job_id=made)) == []


@pytest.mark.parametrize(
    ("fields", "query", "reason"),
    [
        ({"payload/to": "x"}, "", "required property"),
        ({"payload/to": "ann", "payload/template": '"receipt"', "payload/copies": "10"}, "", "/copies: 10 is greater"),
        ({"payload/to": "x\u202e\u200b", "payload/values/name": "\u2028"}, "", "required property"),
        ({"payload": "{"}, "?form=json", "not JSON"),
        ({"payload": '{"to": 1}'}, "?form=json", "is not of type"),
        ({"payload/to": "ann", "payload/template": '"receipt"', "priority": "x"}, "", "priority: must be"),
        ({"payload/to": "ann", "payload/template": '"receipt"', "tags": "[]"}, "", "tags"),
    ],
)
def test_a_trigger_that_is_refused_keeps_what_was_typed(
    desk: JobsDesk, fields: dict[str, str], query: str, reason: str
) -> None:
    """A payload of fifty lines would be gone with the error."""
    answer = trigger(desk, desk.shop.mail, fields, query)
    assert answer.status_code == 400
    page = parse_html(answer.text)
    assert reason in page.one("div", role="alert").text
    texts = texts_of(page.one("form", action=f"/definitions/{desk.shop.mail}/trigger"))
    assert {name: texts[name] for name in fields} == fields


def test_each_fault_of_a_payload_is_beside_its_field(desk: JobsDesk) -> None:
    """Who has two faults would search the fields for those that the list above is about."""
    fields = {"payload/to": "x", "payload/template": '"receipt"', "payload/copies": "10"}
    page = parse_html(trigger(desk, desk.shop.mail, fields).text)
    wrong = {field["name"] for field in page.all("input") if "aria-invalid" in field.attributes}
    assert wrong == {"payload/to", "payload/copies"}


def test_a_disabled_job_is_not_triggered(desk: JobsDesk) -> None:
    """The reason would be looked for in the payload."""
    answer = trigger(desk, desk.shop.off, {"payload": "{}"})
    assert "enable it first" in parse_html(answer.text).one("div", role="alert").text


def test_viewers_change_nothing(desk: JobsDesk) -> None:
    """Whoever may look could send mails to customers."""
    made = desk.shop.plain("watched")
    page = desk.page(f"/definitions/{made}", browser=desk.viewer)
    assert [link.text for link in page.one("main").all("a") if link.text in ("Trigger", "Edit", "Disable")] == []
    for action in ("trigger", "edit", "disable", "pause", "clone", "delete"):
        assert desk.viewer.get(f"/definitions/{made}/{action}").status_code == 403
        assert desk.send(f"/definitions/{made}/{action}", [], desk.viewer).status_code == 403
    for action in ("save", "dependencies", "dependencies/any/remove"):
        assert desk.send(f"/definitions/{made}/{action}", [("version", "1")], desk.viewer).status_code == 403
    assert desk.page(f"/definitions/{made}/dependencies", browser=desk.viewer).all("button", class_="primary") == []
    assert desk.send("/definitions/new", [], desk.stranger).status_code == 401


@pytest.mark.parametrize("changes", ["", "[]", "{", '{"tags": 3}', '{"nothing": 1}', '{"name": null}'])
def test_a_form_that_no_page_has_made_is_refused(desk: JobsDesk, changes: str) -> None:
    """The server would fail on what anybody may send."""
    fields = [("version", "1"), ("changes", changes)]
    for action in ("save", "edit"):
        assert desk.send(f"/definitions/{desk.shop.off}/{action}", fields).status_code in (200, 303, 400)
    assert desk.send(f"/definitions/{desk.shop.off}/save", [("version", "x"), ("changes", "{}")]).status_code == 400
    assert desk.page("/definitions/none", 404).one("h1").text
    assert desk.page(f"/definitions/{desk.shop.off}/none", 404).one("h1").text


def test_schedules_show_a_day(desk: JobsDesk) -> None:
    """Whether two heavy reports meet at night would have to be worked out from cron expressions."""
    page = desk.page("/schedules", day="2026-03-29")  # the clock goes forward in Berlin: 2:30 is 3:00
    rows = {row["data-key"]: row.text for row in rows_of(page)}
    assert "30 2 * * *" in rows[desk.shop.report]
    assert "01:00" in rows[f"day-{desk.shop.report}"]
    assert "00:30" in desk.page("/schedules", day="2026-07-01").one("main").text
    assert desk.page("/schedules", 400, day="2026-02-30").one("h1").text
    assert desk.page("/schedules", 400, day="9999-12-31").one("h1").text
