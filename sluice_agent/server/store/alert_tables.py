"""The table of alerts: the state of each rule."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, Table, Text

from sluice_agent.server.store.schema import metadata

alert = Table(
    "alert",
    metadata,
    Column("rule", Text, primary_key=True),  # its name
    Column("connection", Integer),  # null: there is none of that name yet
    Column("condition", Text, nullable=False),  # in words
    Column("phase", Text, nullable=False),  # quiet, pending or firing
    Column("since", BigInteger),  # the condition holds
    Column("clear_since", BigInteger),  # it fires, and the condition does not hold any more
    Column("notified_at", BigInteger),
    Column("known_at", BigInteger),  # it was last known whether the condition holds
    Column("evaluated_at", BigInteger, nullable=False),
    Column("value", Double),
    Column("text", Text, nullable=False),  # what was measured, in words
    Column("changes", Integer, nullable=False),  # how often the row was written: of two processes one is late
)
