"""Classification of responses: a table of everything that an endpoint, or a proxy before it, may answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.transport.delivery.responses import (
    MAX_WAIT,
    Refused,
    Response,
    Settled,
    TooLarge,
    TryAgain,
    Verdict,
    classify,
    retry_after,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


def verdict(status: int, body: Any = b"", events: int = 10, at: datetime = NOW, **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = Response(status, named, body if isinstance(body, bytes) else json.dumps(body).encode())
    return classify(response, events, at)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 599])
def test_what_passes_by_itself_is_tried_again_with_a_backoff(status: int) -> None:
    """A deployment of the endpoint must cost no event."""
    actual = verdict(status, {"error": {"message": "later"}})
    assert actual == TryAgain(f"{status} later", wait=0.0, exact=False)
    assert verdict(status, retry_after="7") == TryAgain(str(status), wait=7.0, exact=False)


@pytest.mark.parametrize("status", [301, 302, 304, 401, 402, 403, 404, 405, 409, 410, 415, 418, 501])
def test_an_error_that_a_person_must_correct_is_retried_every_minute(status: int) -> None:
    """A revoked key or a wrong address must neither lose the events nor hammer the endpoint."""
    assert verdict(status) == TryAgain(str(status), until_corrected=True)
    assert verdict(status, retry_after="1") == TryAgain(str(status), until_corrected=True)


@pytest.mark.parametrize(("status", "expected"), [(400, Refused), (422, Refused), (413, TooLarge)])
def test_a_refused_batch_is_classified(status: int, expected: Callable[[str], Verdict]) -> None:
    """A batch that is sent unchanged for ever would stop everything behind it."""
    assert verdict(status, {"error": "no"}) == expected(f'{status} {{"error": "no"}}')


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("body", [b"<html>The plain HTTP request was sent to HTTPS port</html>", b"[]", b"\xff"])
def test_a_refusal_that_is_not_the_endpoints_is_held(status: int, body: bytes) -> None:
    """A wrong address, or a firewall with a page of its own, would turn the whole backlog into dead letters."""
    reason = f"{status} with a body that is not a JSON object"
    assert verdict(status, body) == TryAgain(reason, until_corrected=True, is_foreign=True)


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b'{"error": "one event is not valid"}'])
def test_a_refusal_of_the_endpoints_is_one(body: bytes) -> None:
    """An event that the endpoint itself refuses must not hold back everything behind it."""
    assert verdict(400, body) == Refused(f"400 {body.decode()}")


def test_a_success_with_an_error_is_no_delivery() -> None:
    """A gateway that answers 200 with an error in the body would lose the batch silently."""
    assert verdict(200, {"error": {"message": "later"}}) == TryAgain("200 later")
    assert verdict(200, {"error": True}) == TryAgain("200 True")
    assert verdict(200, {"error": "one of them", "accepted": 10}) == Settled(10, 0, 0)
    assert verdict(200, {"error": None}) == Settled(10, 0, 0)


@pytest.mark.parametrize(
    ("counts", "settled"),
    [
        ({"accepted": 10}, Settled(10, 0, 0)),
        ({}, Settled(10, 0, 0)),
        ({"accepted": 7, "skipped": 3}, Settled(10, 0, 3)),
        ({"accepted": 7, "rejected": 3}, Settled(7, 3, 0)),
        ({"accepted": 2, "rejected": 3, "skipped": 5}, Settled(7, 3, 5)),
        ({"rejected": 10, "skipped": 10}, Settled(0, 10, 0)),
        ({"rejected": 99}, Settled(0, 10, 0)),
        ({"rejected": -3, "skipped": -1, "truncated": -1}, Settled(10, 0, 0)),
        ({"rejected": "3", "skipped": None, "truncated": 1.5}, Settled(10, 0, 0)),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 207, 299])
def test_a_settled_batch_is_counted_as_in_the_answer(status: int, counts: dict[str, Any], settled: Settled) -> None:
    """The user's accounts are made of these figures: they must add up whatever the answer has."""
    actual = verdict(status, counts)
    assert isinstance(actual, Settled)
    assert (actual.delivered, actual.rejected, actual.duplicates) == astuple(settled)[:3]
    assert actual.answer == (f"{status} {json.dumps(counts)}" if settled.rejected else "")
    assert settled.delivered + settled.rejected == 10
    assert settled.duplicates <= settled.delivered


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_a_success_without_a_body_is_a_success(body: bytes) -> None:
    """204 has none; sending the same batch for ever would cost the user."""
    assert verdict(204, body) == Settled(10, 0, 0)


@pytest.mark.parametrize(
    "body", [b"<html>Please sign in</html>", b"[]", b"null", b'"ok"', b'{"accepted": 1', b"\xff\xfe", b"[" * 1_000_000]
)
def test_a_success_that_is_no_answer_is_none(body: bytes) -> None:
    """A captive portal answers 200 to everything: the batch would be lost silently."""
    actual = verdict(200, body)
    assert isinstance(actual, TryAgain)
    assert not actual.exact
    assert not actual.until_corrected
    assert actual.is_foreign


@pytest.mark.parametrize("others", [{}, {"rejected": 2}, {"skipped": 8}, {"accepted": 9}])
def test_what_the_daily_limit_cut_off_waits_until_it_resets(others: dict[str, int]) -> None:
    """Events of the evening must be shown the next morning, not be gone."""
    late = NOW.replace(hour=23, minute=50)
    actual = verdict(200, {**others, "truncated": 1}, at=late)
    assert isinstance(actual, TryAgain)
    assert (actual.wait, actual.exact) == (600.0, True)
    assert "daily limit" in actual.reason
    assert verdict(200, {"truncated": 1}) == TryAgain(verdict(200, {"truncated": 1}).reason, MAX_WAIT, exact=True)
    asked = verdict(200, {"truncated": 1}, at=late, retry_after="30")
    assert isinstance(asked, TryAgain)
    assert asked.wait == 30.0


def test_the_day_ends_in_utc_whatever_the_clock_is_set_to() -> None:
    """A host in another zone would wait hours too long, or ask hours too early."""
    there = NOW.replace(hour=23, minute=50).astimezone(timezone(timedelta(hours=5)))
    actual = verdict(200, {"truncated": 1}, at=there)
    assert isinstance(actual, TryAgain)
    assert actual.wait == 600.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("3600", 3600),
        ("36000", MAX_WAIT),
        ("1e300", MAX_WAIT),
        ("9" * 400, None),
        ("-5", 0),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("soon", None),
        ("7 seconds", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30),
        ("Thu Jan  1 12:00:30 2026", 30),
        ("Thu, 01 Jan 2026 14:00:30 +0200", 30),
        ("Thu, 01 Jan 2026 22:00:00 GMT", MAX_WAIT),
        ("Thu, 01 Jan 2025 12:00:00 GMT", 0),
        ("Thu, 32 Jan 2026 12:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_WAIT),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Asked sooner than it wishes, an endpoint locks the key out; obeyed to the letter, ten hours are lost."""
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=40) | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S +9999")))
def test_no_retry_after_does_any_harm(value: str) -> None:
    """Whatever a proxy writes there, the shipper goes on within the hour."""
    assert 0.0 <= (retry_after(value, NOW) or 0.0) <= MAX_WAIT


@given(st.integers(100, 999), st.binary(max_size=50), st.integers(1, 500))
def test_every_answer_has_a_meaning(status: int, body: bytes, events: int) -> None:
    """An unexpected answer must not stop the delivery, nor lose an event."""
    expected = verdict(status, body, events)
    if isinstance(expected, Settled):
        assert 200 <= status < 300
        assert expected.delivered + expected.rejected == events


def test_an_error_page_is_quoted_in_brief() -> None:
    """A megabyte of HTML in the host's log, each minute, hides what matters."""
    actual = verdict(503, {"error": {"message": "x" * 5_000}})
    assert isinstance(actual, TryAgain)
    assert len(actual.reason) < 300
