"""The settings of a job as a form, in words, and compared."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.server.pages.jobs_api.differences import Line, differences
from sluice_agent.server.pages.jobs_api.settings_form import changes_in, default_texts, groups_of, labelled, texts_of
from sluice_agent.server.pages.jobs_api.settings_text import NAMES, sentences

REQUIRED = {"name": "Mail", "slug": "mail", "endpoint_url": "https://example.com/"}
FULL: dict[str, Any] = {
    **REQUIRED,
    "description": "a\nb",
    "tags": {"team": "shop"},
    "max_attempts": 5,
    "retry_strategy": "custom",
    "retry_delays_secs": [1, 10],
    "backwards_compatible": True,
    "webhook_secret": "a long secret of a webhook",
    "payload_schema": {"type": "object", "properties": {"amount": {"type": "number", "multipleOf": 0.5}}},
}


def settings(**fields: Any) -> JobSettings:
    return JobSettings.model_validate({**REQUIRED, **fields})


def test_every_setting_has_a_field_and_a_name() -> None:
    """A setting that is new could be changed by programs only."""
    fields = [field.name for group in groups_of(default_texts()) for field in group.fields]
    assert sorted(fields) == sorted(JobSettings.model_fields)
    assert set(NAMES) >= set(JobSettings.model_fields)


def test_a_form_that_is_sent_as_it_came_changes_nothing() -> None:
    """To open a job and to save it would make a version, and replace its secret by asterisks."""
    texts = texts_of(settings(**FULL))
    assert texts["webhook_secret"].startswith("****")
    as_browsers_send = {name: text.replace("\n", "\r\n") for name, text in texts.items()}
    assert changes_in(as_browsers_send, texts) == ({}, [])


def test_changed_texts_are_settings_of_their_types() -> None:
    """The API would refuse what the form sends."""
    before = texts_of(settings(**FULL))
    after = before | {
        "max_attempts": "",
        "tags": "",
        "retry_delays_secs": "[5]",
        "backwards_compatible": "",
        "description": "a\r\nc",
        "webhook_secret": "",
        "timeout_secs": " 20 ",
    }
    changes, wrong = changes_in(after, before)
    assert wrong == []
    assert changes == {
        "max_attempts": 0,
        "tags": {},
        "retry_delays_secs": [5],
        "backwards_compatible": False,
        "description": "a\nc",
        "webhook_secret": "",
        "timeout_secs": 20,
    }


@pytest.mark.parametrize(
    ("name", "text"), [("max_attempts", "-1"), ("timeout_secs", "1.5"), ("tags", "{"), ("max_concurrency", "²")]
)
def test_a_text_that_is_no_value_is_named(name: str, text: str) -> None:
    """One would look for the fault in thirty fields."""
    changes, [wrong] = changes_in({**texts_of(settings()), name: text}, texts_of(settings()))
    assert changes == {}
    assert labelled(wrong).startswith(f"{NAMES[name]}: ")
    beside = {field.name: field.error for group in groups_of({}, [wrong]) for field in group.fields if field.error}
    assert beside == {name: wrong.removeprefix(f"{name}: ")}


def test_short_settings_are_compared_as_a_whole() -> None:
    """Who reviews a change would compare two texts by eye."""
    [found] = differences(settings(max_attempts=3), settings(max_attempts=5))
    assert found[:4] == ("max_attempts", "Attempts at most", "3", "5")
    [cron] = differences(settings(), settings(cron="0 * * * *"))
    assert (cron.before, cron.after) == ("", "0 * * * *")
    assert differences(settings(**FULL), settings(**FULL)) == []


def test_json_is_compared_by_lines() -> None:
    """A schema of two hundred lines would be shown twice for one that differs."""
    old = {f"p{number:02}": {"type": "string"} for number in range(30)}
    new = {**old, "p15": {"type": "integer"}}
    [found] = differences(settings(payload_schema={"properties": old}), settings(payload_schema={"properties": new}))
    changed = [line for line in found.lines if line.kind in ("added", "removed")]
    assert changed == [Line("removed", '      "type": "string"'), Line("added", '      "type": "integer"')]
    assert len(found.lines) < 12
    left_out = sum(int(line.text) for line in found.lines if line.kind == "left-out")
    equal = sum(line.kind == "equal" for line in found.lines)
    assert left_out + equal + 1 == found.before.count("\n") + 1


def test_a_secret_is_never_shown() -> None:
    """Whoever may read a page could sign requests."""
    [found] = differences(settings(webhook_secret="first secret, long"), settings(webhook_secret="other secret, long"))
    assert (found.before, found.after) == ("****long", "****long, another one")
    assert "secret" not in str(sentences(settings(**FULL)))


def test_settings_are_sentences() -> None:
    """What a job does would have to be put together from thirty numbers."""
    found = dict(
        sentences(
            settings(
                max_concurrency=1,
                max_concurrency_per_key=2,
                rate_limit_max=1,
                rate_limit_window_secs=3600,
                retry_strategy="custom",
                retry_delays_secs=[1, 90],
                cron="30 2 * * *",
                timezone="Europe/Berlin",
                cron_overlap_policy="skip",
                rate_limit_keys=[{"name": "smtp", "max": 3, "window_secs": 1}],
            )
        )
    )
    assert found["Endpoint"] == "POST https://example.com/"
    assert found["Attempts"] == "3 at most, of 5 min each. Between them: 1 s, 1 min 30 s; the last delay repeats."
    assert found["Concurrency"] == "At most 1 run at a time, 2 of each concurrency key. Others wait."
    assert found["Rate"] == "At most 1 trigger in 1 h. Others are refused with 429."
    assert found["Named limits"] == "smtp: 3 starts in 1 s. All jobs with a limit share it; others wait."
    assert found["Schedule"] == ("30 2 * * * in Europe/Berlin. While the last firing still runs: skip the firing.")
    assert dict(sentences(settings(endpoint_url="celery://shop.mail.send?queue=mail")))["Celery task"] == (
        "shop.mail.send, to the queue mail"
    )
