"""The tables of bulk actions: each action, and its jobs with what has become of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from sluice_agent.server.store.schema import metadata

bulk_action = Table(
    "bulk_action",
    metadata,
    Column("id", Text, primary_key=True),  # a UUID
    Column("kind", Text, nullable=False),  # retry or revoke
    Column("state", Text, nullable=False),  # collecting, running, completed or cancelled
    Column("who", Text, nullable=False),
    Column("connections", Text, nullable=False),  # the numbers of those whose jobs it may act on, as JSON
    Column("filter", Text, nullable=False),  # as in the request, as JSON
    Column("again", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("waiting_for", Text),  # why it can't go on at present
    Index("bulk_action_by_state", "state", "created_at"),
)

bulk_item = Table(
    "bulk_item",
    metadata,
    Column("action", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # in the order in which they are taken
    Column("job", LargeBinary(16), nullable=False),
    Column("state", Text, nullable=False),  # pending, sending, succeeded, failed, unconfirmed or cancelled
    Column("task_id", Text),  # of the new job: committed before the message is sent
    Column("error", Text),
    Index("bulk_item_by_state", "action", "state", "number"),
    sqlite_with_rowid=False,
)
