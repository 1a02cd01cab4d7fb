"""Signatures of requests to a job's endpoint and webhook, by the job's secret.

There are two of each request: that of Standard Webhooks (``webhook-…``), and one over the time and the body only
(``X-Strait-…``), which receivers of the product know that the jobs API comes from.
"""

from __future__ import annotations

import hashlib
import hmac

from sluice_agent.server.webhooks.signing import decode_secret, signed_headers


def signature_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that sign `body`, at `timestamp` in seconds since 1970.

    The key is the secret's text; for Standard Webhooks, if it is of the form ``whsec_…``, the bytes in it.
    """
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        **signed_headers(_key(secret), message_id, timestamp, body),
        "X-Strait-Timestamp": str(timestamp),
        "X-Strait-Signature": f"v1={signed}",
    }


def _key(secret: str) -> bytes:
    try:
        return decode_secret(secret)
    except ValueError:
        return secret.encode()
