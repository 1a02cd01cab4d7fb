"""Signatures of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret, as the specification demands


def decode_secret(secret: str) -> bytes:
    """Return the bytes of a secret ``whsec_…``. Raises `ValueError` with what is wrong, and nothing of the secret."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"it must begin with {PREFIX}, followed by base64")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError(f"what follows {PREFIX} must be base64") from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"it must be of {_SHORTEST} to {_LONGEST} bytes, and is of {len(key)}")
    return key


def signed_headers(key: bytes, delivery: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Return the three headers for one attempt, at `timestamp` in seconds since 1970."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": delivery, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
