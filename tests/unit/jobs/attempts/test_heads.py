"""The heads of requests and answers that are kept: which of them, and what of them."""

from __future__ import annotations

from sluice_agent.jobs.attempts.heads import exchange_of, within_limits
from sluice_agent.jobs.attempts.records import Exchange

HIDDEN = "[redacted]"
SENT = {
    "X-Run-ID": "r1",
    "X-Run-Token": "ey.the.token",
    "X-Secret-Key": "key of staging",
    "webhook-signature": "v1,abcdefgh",
    "X-Strait-Signature": "v1=abcdef012",
    "X-Api-Key": "0123456789",
}


def test_nothing_that_is_secret_is_kept() -> None:
    """Whoever may look at runs could sign in at the endpoint, or send the request again."""
    answered = {
        "set-cookie": "session=1",
        "location": "https://example.com/next?token=abc#at",
        "x-echo": "it was key of staging, and ey.the.token",
        "authorization": "Basic dXNlcjpwYXNz",
        "content-type": "text/plain",
    }
    kept = exchange_of("https://example.com/hook?key=1#x", SENT, 302, answered)
    assert kept.url == "https://example.com/hook"
    assert kept.request_headers == {"X-Run-ID": "r1", **dict.fromkeys(list(SENT)[1:], HIDDEN)}
    assert kept.answer_headers == {
        "set-cookie": HIDDEN,
        "location": "https://example.com/next",
        "x-echo": f"it was {HIDDEN}, and {HIDDEN}",
        "authorization": HIDDEN,
        "content-type": "text/plain",
    }


def test_heads_are_cut() -> None:
    """An endpoint could fill the database with its headers."""
    long = exchange_of("https://example.com/" + "p" * 5_000, {"a" * 500: "b" * 5_000}, 200, {})
    [(name, value)] = long.request_headers.items()
    assert (len(long.url), len(name), len(value)) == (1_000, 100, 1_000)
    many = exchange_of("https://example.com", {}, 200, {f"x-{n}": "v" for n in range(500)})
    assert len(many.answer_headers or {}) == 50
    large = exchange_of("https://example.com", {}, 200, {f"x-{n}": "v" * 900 for n in range(50)})
    assert sum(len(name) + len(value) for name, value in (large.answer_headers or {}).items()) <= 10_000


def test_a_server_keeps_its_limits_whatever_a_worker_sends() -> None:
    """A worker with an error of its own would fill the database, or send what it does not take for ever."""
    sent = Exchange(url="u" * 9_999, request_headers={"a\0": "b\0" * 9_999}, answer_headers={"a": "b" * 9_999})
    first, second = within_limits([sent] * 9)
    assert first == second
    [(name, value)] = first.request_headers.items()
    assert (len(first.url), name, len(value)) == (1_000, "a�", 1_000)
    assert "\0" not in value
