"""Random texts that grant access: keys, sign-in tokens and sessions. A database holds their hashes only."""

from __future__ import annotations

import hashlib
import re
import secrets

KEY_PREFIX = "sk_local_"
_BYTES = 32
_NEW_KEY = re.compile(KEY_PREFIX + "[0-9A-Za-z_-]{43}")
_NEW_ID = re.compile("[0-9a-f]{8}")


def new_key() -> str:
    """Return a new key in the form that clients of the vendor expect."""
    return KEY_PREFIX + secrets.token_urlsafe(_BYTES)


def is_new(key: str, key_id: str) -> bool:
    """Return whether a key and its id have the form of new ones."""
    return _NEW_KEY.fullmatch(key) is not None and _NEW_ID.fullmatch(key_id) is not None


def new_token() -> str:
    """Return a new token of a sign-in link or a session."""
    return secrets.token_urlsafe(_BYTES)


def new_id() -> str:
    """Return a short name for a key or a session, which is no secret."""
    return secrets.token_hex(4)


def digest(text: str) -> bytes:
    """Return the hash under which `text` is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
