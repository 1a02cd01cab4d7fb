"""The token of a run: a JWT (HS256) by which who has it may report about this run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

_HEADER = {"alg": "HS256", "typ": "JWT"}
_SECOND = 1_000_000  # microseconds


def run_token(secret: bytes, run_id: str, attempt: int, issued_at: int, expires_at: int | None) -> str:
    """Return the token of an attempt of a run. It has an end if the run has one; times are microseconds since 1970."""
    claims = {"sub": run_id, "attempt": attempt, "iat": issued_at // _SECOND}
    if expires_at is not None:
        claims["exp"] = expires_at // _SECOND
    signed = f"{_part(_HEADER)}.{_part(claims)}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_text(signature)}"


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
