"""The heads of an attempt's requests and of their answers, as `debug_mode` keeps them: without secrets, and within
limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from sluice_agent.jobs.attempts.records import Exchange
from sluice_agent.lifecycle.redaction import HIDDEN, redact

MOST_EXCHANGES = 2
"""Requests of one attempt: to the endpoint, and to its fallback."""

_MOST_HEADERS = 50
_LONGEST_NAME = 100  # characters
_LONGEST_VALUE = 1_000
_LONGEST_HEAD = 10_000  # of names and values together
_LONGEST_URL = 1_000
_SHORTEST_SECRET = 8  # a shorter value would be replaced in words that have nothing to do with it
_SIGNATURE = re.compile("signature", re.IGNORECASE)  # with it a request could be repeated
_LINKS = frozenset(("location", "content-location", "link", "refresh", "referer"))
_QUERY = re.compile(r"[?#][^\s>;,]*")


def exchange_of(
    url: str, sent: Mapping[str, str], status_code: int | None = None, answered: Mapping[str, str] | None = None
) -> Exchange:
    """Return what is kept of a request with the headers `sent`, and of its answer, if there was one.

    What has the name of a secret is replaced, also where an answer repeats it. URLs are without their queries.
    """
    hidden = {value for name, value in sent.items() if _is_secret(name) and len(value) >= _SHORTEST_SECRET}
    secrets = sorted(hidden, key=len, reverse=True)
    return Exchange(
        url=_cut(str(redact("url", _without(_QUERY.sub("", url), secrets))), _LONGEST_URL),
        request_headers=_redacted(sent, secrets),
        status_code=status_code,
        answer_headers=None if answered is None else _redacted(answered, secrets),
    )


def within_limits(exchanges: Iterable[Exchange]) -> tuple[Exchange, ...]:
    """Return what a server keeps of the exchanges that a worker has reported, whatever that has sent."""
    return tuple(
        exchange.model_copy(
            update={
                "url": _cut(exchange.url, _LONGEST_URL),
                "request_headers": _within(exchange.request_headers),
                "answer_headers": None if exchange.answer_headers is None else _within(exchange.answer_headers),
            }
        )
        for exchange in tuple(exchanges)[:MOST_EXCHANGES]
    )


def _is_secret(name: str) -> bool:
    return bool(_SIGNATURE.search(name)) or redact(name, "") == HIDDEN


def _redacted(headers: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        link = _QUERY.sub("", value) if name.lower() in _LINKS else value
        found[name] = HIDDEN if _is_secret(name) else str(redact(name, _without(link, secrets)))
    return _within(found)


def _within(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = _LONGEST_HEAD
    for name, value in islice(headers.items(), _MOST_HEADERS):
        cut_name, cut_value = _cut(name, _LONGEST_NAME), _cut(value, _LONGEST_VALUE)
        left -= len(cut_name) + len(cut_value)
        if left < 0:
            break
        kept[cut_name] = cut_value
    return kept


def _cut(text: str, most: int) -> str:
    return _printable(text if len(text) <= most else f"{text[: most - 1]}…")


def _printable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")  # databases do not store it


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
