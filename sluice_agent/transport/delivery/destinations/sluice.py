"""The Sluice endpoint as a destination, and the format of its requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256

from sluice_agent.transport.delivery.destinations.base import SLUICE
from sluice_agent.transport.delivery.http import HttpClient, UnreachableError, noop
from sluice_agent.transport.delivery.responses import (
    Refused,
    TryAgain,
    Verdict,
    classify,
    is_foreign_refusal,
    is_foreign_response,
    response_text,
)
from sluice_agent.transport.journal.selector import JobFilter

NO_EVENT = b'{"events":[]}'
"""The smallest request that the endpoint takes."""


class SluiceEndpoint:
    """`POST {api_url}/ingest` with a kept connection. Lines are sent as they were written: nothing is parsed."""

    name = SLUICE.name
    deduplicates = SLUICE.deduplicates
    job_filter: JobFilter | None = None

    def __init__(self, ingest_url: str, api_key: str) -> None:
        self._http = HttpClient(ingest_url, {"Authorization": f"Bearer {api_key}"})
        self.last_response = ""
        """The status and the body of the latest answer."""

    def send(self, lines: list[bytes], on_sending: Callable[[], None] = noop) -> Verdict:
        """Send `lines` as one request, and return the verdict; `on_sending` as in `HttpClient.post`."""
        body = b'{"events":[' + b",".join(lines) + b"]}"
        try:
            response = self._http.post(body, {"Idempotency-Key": sha256(body).hexdigest()}, on_sending)
        except UnreachableError as error:
            return TryAgain(str(error))
        self.last_response = response_text(response)
        if is_foreign_refusal(response) and self._answers_itself():
            return Refused()
        return classify(response, len(lines), datetime.now(timezone.utc), SLUICE.url_variable)

    def _answers_itself(self) -> bool:
        """Return whether the endpoint itself answers a request without events: then it is the events it refuses."""
        try:
            return not is_foreign_response(self._http.post(NO_EVENT, {}))
        except UnreachableError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
