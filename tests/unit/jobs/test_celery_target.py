"""Addresses of Celery tasks, their arguments, and which of them may be sent."""

from __future__ import annotations

import pytest

from sluice_agent.jobs.celery_target import Arguments, CeleryTarget, TaskRules, arguments_in, parse_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("celery://shop.tasks.Send", CeleryTarget("shop.tasks.Send", None, takes_args=False)),
        ("celery://add?queue=mail&args=1", CeleryTarget("add", "mail", takes_args=True)),
        ("celery://add?args=0&queue=m%26l", CeleryTarget("add", "m&l", takes_args=False)),
        ("celery://a%2Fb%3Ac", CeleryTarget("a/b:c", None, takes_args=False)),
        ("celery://gr%C3%BC%C3%9Fe.senden", CeleryTarget("grüße.senden", None, takes_args=False)),
    ],
)
def test_an_address_names_a_task(url: str, target: CeleryTarget) -> None:
    """A task whose name Celery allows could not be a job."""
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "celery://",
        "celery:///tasks.add",
        "celery://a/b",
        "celery://a#b",
        "celery://a%20b",
        "celery://a%00",
        "celery://a%ff",
        "celery://" + "a" * 256,
        "celery://a?queue=",
        "celery://a?queue=x&queue=y",
        "celery://a?que=x",
        "celery://a?args=true",
        "celery://a?args",
        "celery://[a",
    ],
)
def test_a_malformed_address_is_refused(url: str) -> None:
    """A mistake in an address would be found by the first run, at night."""
    with pytest.raises(ValueError, match=r"^it|^its"):
        parse_target(url)


def test_a_payload_is_the_arguments_of_a_call() -> None:
    """A task would be called with other arguments than were sent."""
    plain, positional = parse_target("celery://a"), parse_target("celery://a?args=1")
    assert arguments_in(plain, '{"args":[1],"n":1e3}') == Arguments([], {"args": [1], "n": 1000.0})
    assert arguments_in(positional, "{}") == Arguments([], {})
    assert arguments_in(positional, '{"args":[1],"kwargs":{"b":2}}') == Arguments([1], {"b": 2})
    for target, payload in (
        (plain, "[1]"),
        (plain, "null"),
        (positional, '{"b":2}'),
        (positional, '{"args":{}}'),
        (positional, '{"kwargs":null}'),
    ):
        with pytest.raises(ValueError, match="must be"):
            arguments_in(target, payload)


@pytest.mark.parametrize(
    ("rules", "url", "reason"),
    [
        (TaskRules(("shop.*",), (), has_broker=True), "celery://shop.add", None),
        (TaskRules(("shop.*",), ("mail",), has_broker=True), "celery://shop.add?queue=mail", None),
        (TaskRules(("shop.*",), ("mail",), has_broker=False), "celery://shop.add", "--broker"),
        (
            TaskRules((), (), has_broker=True),
            "celery://shop.add",
            "SLUICE_JOBS_TASKS, of sluice-agent serve is not set",
        ),
        (TaskRules(("shop.*",), (), has_broker=True), "celery://Shop.add", "SLUICE_JOBS_TASKS"),
        (TaskRules(("shop.*",), (), has_broker=True), "celery://workshop.add", "SLUICE_JOBS_TASKS"),
        (TaskRules(("*",), (), has_broker=True), "celery://celery.chord", "internal"),
        (TaskRules(("*", "sluice.run"), (), has_broker=True), "celery://sluice.run", "internal"),
        (TaskRules(("*",), (), has_broker=True), "celery://a?queue=celery", "SLUICE_JOBS_QUEUES"),
        (TaskRules(("*",), ("mail",), has_broker=True), "celery://a?queue=mail2", "SLUICE_JOBS_QUEUES"),
    ],
)
def test_only_what_the_operator_names_is_sent(rules: TaskRules, url: str, reason: str | None) -> None:
    """A key for HTTP would be a key for every task of every worker."""
    fault = rules.fault(parse_target(url))
    assert fault is None if reason is None else reason in str(fault)
