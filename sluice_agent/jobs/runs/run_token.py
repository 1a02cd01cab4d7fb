"""The token of a run: a JWT (HS256) by which who has it may report about this run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

_HEADER = {"alg": "HS256", "typ": "JWT"}
_SECOND = 1_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class AttemptOfToken:
    """The attempt that a token is of: after a replay `attempt` is 1 again, but `retries` is another one."""

    run_id: str
    attempt: int
    retries: int


def run_token(secret: bytes, of: AttemptOfToken, issued_at: int, expires_at: int | None) -> str:
    """Return the token of an attempt. It has an end if the run has one; times are microseconds since 1970.

    The token is stored nowhere: it is signed, and holds as long as the run is in this attempt.
    """
    claims = {"sub": of.run_id, "attempt": of.attempt, "retries": of.retries, "iat": issued_at // _SECOND}
    if expires_at is not None:
        claims["exp"] = expires_at // _SECOND
    signed = f"{_part(_HEADER)}.{_part(claims)}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_text(signature)}"


def read_token(secret: bytes, token: str, now: int) -> AttemptOfToken | None:
    """Return the attempt that a token is of; None if it is not signed by `secret`, or has ended before `now`."""
    signed, _, signature = token.rpartition(".")
    expected = _text(hmac.new(secret, signed.encode("utf-8", "surrogatepass"), hashlib.sha256).digest())
    if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), expected.encode()):
        return None
    payload = signed.rpartition(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if claims.get("exp") is not None and claims["exp"] * _SECOND <= now:
        return None
    return AttemptOfToken(claims["sub"], claims["attempt"], claims.get("retries", 0))


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
