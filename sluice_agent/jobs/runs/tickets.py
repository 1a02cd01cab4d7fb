"""Tickets, by which a worker starts an attempt: random, and stored only as hashes.

A run that is claimed again for the same attempt gets another ticket, and its earlier ones stay valid: the message of an
earlier claim, of which no confirmation came, may be the first to reach a worker. All of them end with the attempt.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_BYTES = 32
_MOST = 8  # tickets of one attempt that are kept, the latest


def new_ticket() -> str:
    """Return a random ticket."""
    return secrets.token_urlsafe(_BYTES)


def add_ticket(hashes: bytes | None, ticket: str) -> bytes:
    """Return `run.ticket_hash` of a run that is claimed, for its `hashes` until then."""
    kept = (hashes or b"")[-(_MOST - 1) * _BYTES :]
    return kept + _hash(ticket)


def is_valid(hashes: bytes | None, ticket: str) -> bool:
    """Return whether a ticket is one of those of an attempt."""
    given, stored = _hash(ticket), hashes or b""
    return any(hmac.compare_digest(given, stored[start : start + _BYTES]) for start in range(0, len(stored), _BYTES))


def _hash(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
