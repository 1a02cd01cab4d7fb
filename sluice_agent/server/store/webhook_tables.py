"""The tables of outbound webhooks: each delivery, and its attempts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from sluice_agent.server.store.schema import metadata

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", Text, primary_key=True),  # the same in each attempt: by it a receiver recognises a second one
    Column("kind", Text, nullable=False),  # what decided it, such as alert: by it the secret is found
    Column("subject", Text, nullable=False),  # what it is about
    Column("secret", Text, nullable=False),  # the name of the secret, never itself
    Column("url", Text, nullable=False),
    Column("allows_private", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # pending, delivered, gone or failed
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("claim", Text),  # of the process that sends it now, by a random text
    Column("claimed_until", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("webhook_delivery_by_due", "state", "due_at"),
    Index("webhook_delivery_by_creation", "created_at"),
    Index("webhook_delivery_by_end", "ended_at"),
)

webhook_attempt = Table(
    "webhook_attempt",
    metadata,
    Column("delivery", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),  # null: no response
    Column("error", Text),
    sqlite_with_rowid=False,
)
