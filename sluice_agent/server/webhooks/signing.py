"""Signatures of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

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


def signed_headers(keys: Sequence[bytes], delivery: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Return the three headers for one attempt, at `timestamp` in seconds since 1970, with a signature by each key.

    Without a key there is no signature.
    """
    signed = f"{delivery}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    headers = {"webhook-id": delivery, "webhook-timestamp": str(timestamp)}
    return {**headers, "webhook-signature": signatures} if signatures else headers
