"""Signatures of requests to a job's endpoint and webhook, by the job's secrets: while one is replaced, by both.

There are two of each request: that of Standard Webhooks (``webhook-…``), and one over the time and the body only
(``X-Strait-…``), which receivers of the product know that the jobs API comes from.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from sluice_agent.server.webhooks.signing import decode_secret, signed_headers


def signature_headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that sign `body`, at `timestamp` in seconds since 1970, by each of the `secrets`.

    The key is the secret's text; for Standard Webhooks, if it is of the form ``whsec_…``, the bytes in it.
    """
    if not secrets:
        return {}
    return {
        **signed_headers([_key(secret) for secret in secrets], message_id, timestamp, body),
        "X-Strait-Timestamp": str(timestamp),
        "X-Strait-Signature": _signatures(secrets, timestamp, body),
    }


def webhook_headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook: its id and time, and its signatures, of which an older receiver knows a second
    name."""
    if not secrets:
        return dict(signed_headers((), message_id, timestamp, body))
    headers = signature_headers(secrets, message_id, timestamp, body)
    return {**headers, "X-Webhook-Signature": headers["X-Strait-Signature"]}


def _signatures(secrets: Sequence[str], timestamp: int, body: bytes) -> str:
    signed = f"{timestamp}.".encode() + body
    return ",".join(f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets)


def _key(secret: str) -> bytes:
    try:
        return decode_secret(secret)
    except ValueError:
        return secret.encode()
