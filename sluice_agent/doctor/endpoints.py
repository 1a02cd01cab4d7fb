"""The endpoints: can they be reached, do they accept the key, and does their clock agree with this host's?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations.base import Destination
from sluice_agent.transport.delivery.http import HttpClient, UnreachableError
from sluice_agent.transport.delivery.responses import Response, is_foreign_response, json_object, response_text

_MAX_SKEW = 5.0  # seconds: beyond it a worker's heartbeats look old before they arrive
_DATE_RESOLUTION = 1.0  # seconds, of a Date header
_MAX_TEXT = 200  # characters of a response


def check_endpoint(destination: Destination, settings: Settings) -> Iterator[Finding]:
    """Post the destination's probe, which verifies the key and delivers no event; without a key, check nothing."""
    key = destination.key(settings)
    if key is not None:
        yield from _probe(destination, destination.url(settings), key)


def _probe(destination: Destination, url: str, key: str) -> Iterator[Finding]:
    client = HttpClient(url, key)
    before = time.time()
    try:
        response = client.post(destination.probe, {})
    except UnreachableError as error:
        todo = f"is {destination.url_variable} right, and may this host connect to it (proxy, firewall, certificates)?"
        yield fault(destination.name, f"{url} can't be reached: {error}", todo)
        return
    finally:
        client.close()
    yield _response_finding(destination, url, response)
    yield from _clock_finding(destination.name, response, before, time.time())


def _response_finding(destination: Destination, url: str, response: Response) -> Finding:
    name, text = destination.name, response_text(response)[:_MAX_TEXT]
    if response.status in (401, 403):
        return fault(
            name, f"{url} refuses the key: {text}", f"set {destination.key_variable} to a key that is valid there"
        )
    if response.status == 429:
        return warning(name, f"{url} accepts no events for now: {text}", "events wait in the journal until it does")
    if response.status >= 500:
        return fault(name, f"{url} fails: {text}", "events wait in the journal until it works again")
    is_accepted = 200 <= response.status < 300 and json_object(response.body) is not None
    if is_accepted or (response.status in (400, 422) and not is_foreign_response(response)):
        return ok(name, f"{url} can be reached and accepts the key")
    return fault(name, f"{url} does not answer like this endpoint: {text}", f"is {destination.url_variable} right?")


def _clock_finding(name: str, response: Response, before: float, after: float) -> Iterator[Finding]:
    """Compare this clock with the endpoint's, which dated its response between `before` and `after`."""
    try:
        endpoint_time = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        yield note("clock", f"{name} sends no valid Date header: its clock can't be compared")
        return
    skew = max(before - (endpoint_time + _DATE_RESOLUTION), endpoint_time - after, 0.0)
    if skew > _MAX_SKEW:
        direction = "behind" if endpoint_time > after else "ahead of"
        todo = "set this host's clock (NTP): times of jobs are wrong, and its workers may be shown offline"
        yield fault("clock", f"this host is {skew:,.0f} s {direction} {name}", todo)
    else:
        yield ok("clock", f"agrees with {name}")
