"""The endpoints: whether they can be reached, take the key, and agree with this host on the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.settings import Settings
from sluice_agent.transport import sluice
from sluice_agent.transport.http import HttpClient, Response, UnreachableError
from sluice_agent.transport.responses import is_foreign_response, object_in, text_of

_SKEW = 5.0  # seconds: more, and a worker's heartbeats look old before they arrive
_DATE_STEP = 1.0  # seconds: a Date header knows no less
_SHOWN = 200  # characters of an answer


def check_sluice(settings: Settings) -> Iterator[Finding]:
    """Post no event at all: the cheapest request that says whether the key is right."""
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        yield from _probe("sluice", settings.ingest_url, key, sluice.NO_EVENT, "SLUICE_API_KEY", "SLUICE_API_URL")


def check_ackly(settings: Settings) -> Iterator[Finding]:
    """Post what is no event: Ackly answers 400 where the key is right, and nothing is ingested."""
    if settings.ackly_ingest_key is not None:
        key = settings.ackly_ingest_key.get_secret_value()
        yield from _probe("ackly", settings.ackly_url, key, b"{}", "ACKLY_INGEST_KEY", "ACKLY_URL")


def _probe(name: str, url: str, key: str, body: bytes, key_variable: str, url_variable: str) -> Iterator[Finding]:
    client = HttpClient(url, {"Authorization": f"Bearer {key}"})
    before = time.time()
    try:
        response = client.post(body, {})
    except UnreachableError as error:
        todo = f"is {url_variable} right, and may this host connect to it (proxy, firewall, certificates)?"
        yield fault(name, f"{url} can't be reached: {error}", todo)
        return
    finally:
        client.close()
    yield _meaning(name, url, response, key_variable, url_variable)
    yield from _skew(name, response, before, time.time())


def _meaning(name: str, url: str, response: Response, key_variable: str, url_variable: str) -> Finding:
    said = text_of(response)[:_SHOWN]
    if response.status in (401, 403):
        return fault(name, f"{url} refuses the key: {said}", f"set {key_variable} to a key that is valid there")
    if response.status == 429:
        return warning(name, f"{url} takes no more for now: {said}", "events wait in the journal until it does")
    if response.status >= 500:
        return fault(name, f"{url} fails: {said}", "events wait in the journal until it is mended")
    is_taken = 200 <= response.status < 300 and object_in(response.body) is not None
    if is_taken or (response.status in (400, 422) and not is_foreign_response(response)):
        return ok(name, f"{url} can be reached and takes the key")
    return fault(name, f"{url} answers like something else: {said}", f"is {url_variable} right?")


def _skew(name: str, response: Response, before: float, after: float) -> Iterator[Finding]:
    """How far this clock is from the endpoint's: the answer was dated between the two moments given."""
    try:
        theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        yield note("clock", f"{name} does not say what time it is there")
        return
    skew = max(before - (theirs + _DATE_STEP), theirs - after, 0.0)
    if skew > _SKEW:
        way = "behind" if theirs > after else "ahead of"
        todo = "set this host's clock (NTP): times of jobs are wrong, and its workers may be shown offline"
        yield fault("clock", f"this host is {skew:,.0f} s {way} {name}", todo)
    else:
        yield ok("clock", f"agrees with {name}")
