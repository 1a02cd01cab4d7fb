"""The tables of access: keys, sign-in tokens, sessions, and the log of actions.

No key and no token is stored, only its SHA-256: both are random, so a slow hash would add nothing.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

from sluice_agent.server.store.schema import Number, metadata

_HASH = LargeBinary(32)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),  # what commands and the log show
    Column("hash", _HASH, nullable=False, unique=True),
    Column("connection", Integer, nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),  # a revoked key stays, so that it is refused where others need no key
)

signin_token = Table(
    "signin_token",
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("role", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", _HASH, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
)

action_log = Table(
    "action_log",
    metadata,
    Column("number", Number, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),  # such as retry
    Column("connection", Integer, index=True),
    Column("subject", Text, nullable=False),  # such as a job's id
    Column("detail", Text, nullable=False),
)
