"""The Sluice endpoint: lines are sent as they were written, nothing is parsed, in batches that may be sent again."""

from __future__ import annotations

from hashlib import sha256

from sluice_agent.settings import Settings, key_text
from sluice_agent.transport.delivery.destinations.base import Destination, Limits, Request
from sluice_agent.transport.delivery.responses import classify


def _encode(lines: list[bytes]) -> Request:
    parts = lines.copy()
    parts[0] = b'{"events":[' + parts[0]
    parts[-1] += b"]}"
    body = b",".join(parts)  # the only copy of the events: each takes as long as their checksum
    return Request(body, {"Idempotency-Key": sha256(body).hexdigest()})


def _limits(settings: Settings) -> Limits:
    return Limits(settings.batch_size, settings.batch_bytes, settings.daily_budget)


SLUICE = Destination(
    name="sluice",
    key_variable="SLUICE_API_KEY",
    url_variable="SLUICE_API_URL",
    key=lambda settings: key_text(settings.api_key),
    url=lambda settings: settings.ingest_url,
    limits=_limits,
    job_filter=lambda _: None,
    encode=_encode,
    classify=classify,
    probe=b'{"events":[]}',  # the cheapest request that verifies the key
    deduplicates=True,
    needs_connection=True,
    confirms_refusals=True,
)
