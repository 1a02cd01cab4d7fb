"""The client of a destination: a batch becomes a request, and the response a verdict, whatever the destination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from sluice_agent.transport.delivery.destinations.base import Destination, UnsendableError
from sluice_agent.transport.delivery.http import TIMEOUTS, HttpClient, UnreachableError
from sluice_agent.transport.delivery.responses import (
    KEY_REFUSED,
    Refused,
    Response,
    TryAgain,
    Unanswered,
    Verdict,
    is_foreign_refusal,
    is_foreign_response,
    response_text,
)


class Client(Protocol):
    """What a shipper delivers to."""

    def send(self, lines: list[bytes]) -> Verdict:
        """Send the events in `lines`, and return the verdict. Raises nothing itself."""

    def close(self) -> None:
        """Close the connection that `send` keeps open."""


Connect = Callable[[Callable[[], None]], Client]
"""Makes a client that calls its argument just before a request is sent: until then nothing can have arrived."""


class EndpointClient:
    """Sends batches to the endpoint of `destination`, over a kept connection. `on_sending` as in `HttpClient`."""

    def __init__(self, destination: Destination, url: str, key: str, on_sending: Callable[[], None]) -> None:
        self._destination = destination
        self._url = url
        self._http = HttpClient(url, key, on_sending, TIMEOUTS)

    def send(self, lines: list[bytes]) -> Verdict:
        """Send `lines` as one request, and return the verdict."""
        try:
            request = self._destination.encode(lines)
        except UnsendableError as error:
            return Refused(f"not sent: {error}")
        try:
            response = self._http.post(request.body, request.headers)
        except UnreachableError as error:
            return self._unreachable(error)
        if self._destination.confirms_refusals and is_foreign_refusal(response) and self._answers_itself():
            return Refused(response_text(response))
        return self._classify(response, len(lines))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _unreachable(self, error: UnreachableError) -> Verdict:
        if error.may_have_arrived and not self._destination.deduplicates:
            return Unanswered(str(error))
        return TryAgain(str(error), remedy=self._start_the_server() if error.is_refused else "")

    def _start_the_server(self) -> str:
        """Return the remedy if nothing listens at an address of this machine."""
        host = urlsplit(self._url).hostname or ""
        if host != "localhost" and not _is_loopback(host):
            return ""
        name, variable = urlsplit(self._url).netloc, self._destination.url_variable
        return (
            f"Nothing listens on {name} of this machine or container: start `sluice-agent serve` there, or "
            f"correct {variable}"
        )

    def _answers_itself(self) -> bool:
        """Return whether the endpoint itself answers the probe: then it is the events that are refused."""
        try:
            return not is_foreign_response(self._http.post(self._destination.probe, {}))
        except UnreachableError:
            return False

    def _classify(self, response: Response, events: int) -> Verdict:
        verdict = self._destination.classify(response, events, datetime.now(timezone.utc))
        if isinstance(verdict, TryAgain) and verdict.is_foreign:
            return replace(verdict, reason=f"{verdict.reason}: check {self._destination.url_variable}")
        if isinstance(verdict, TryAgain) and response.status in KEY_REFUSED:
            return replace(
                verdict, remedy=f"It refuses {self._destination.key_variable}: `sluice-agent doctor` checks it"
            )
        return verdict


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False
