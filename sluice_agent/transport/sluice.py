"""The Sluice endpoint as a destination: what a request to it looks like."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256

from sluice_agent.transport.http import HttpClient, UnreachableError, noop
from sluice_agent.transport.responses import (
    Refused,
    TryAgain,
    Verdict,
    classify,
    is_foreign_refusal,
    is_foreign_response,
    text_of,
)
from sluice_agent.transport.selector import JobFilter

NO_EVENT = b'{"events":[]}'
"""The smallest request that the endpoint takes."""


class SluiceEndpoint:
    """`POST {api_url}/ingest` with a kept connection. Lines go out as they were written: nothing is parsed."""

    name = "sluice"
    knows_duplicates = True
    job_filter: JobFilter | None = None

    def __init__(self, ingest_url: str, api_key: str) -> None:
        self._http = HttpClient(ingest_url, {"Authorization": f"Bearer {api_key}"})
        self.last_response = ""
        """The status and the body of the latest answer."""

    def send(self, lines: list[bytes], on_leaving: Callable[[], None] = noop) -> Verdict:
        """Send `lines` as one request, and say what became of them; `on_leaving` as in `HttpClient.post`."""
        body = b'{"events":[' + b",".join(lines) + b"]}"
        try:
            response = self._http.post(body, {"Idempotency-Key": sha256(body).hexdigest()}, on_leaving)
        except UnreachableError as error:
            return TryAgain(str(error))
        self.last_response = text_of(response)
        if is_foreign_refusal(response) and self._is_there_itself():
            return Refused()
        return classify(response, len(lines), datetime.now(timezone.utc))

    def _is_there_itself(self) -> bool:
        """Whether no event at all gets an answer of the endpoint's own: then a refusal is of the events."""
        try:
            return not is_foreign_response(self._http.post(NO_EVENT, {}))
        except UnreachableError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
