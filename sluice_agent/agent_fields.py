"""How an agent makes known what it reports itself, so that a monitor on the same cluster leaves it to that agent."""

from __future__ import annotations

AGENT = "sluice_agent"
"""Where an agent that reports is named: in worker events and in `task-sent` by its connection's id, in the answer to
`inspect stats` by a mapping."""
CREATED_AT = "sluice_created_at"
"""The field of `task-sent` that holds the job's creation as the agent has reported it."""

CONNECTION, REPORTS, VERSION = "connectionId", "reports", "version"
"""The members of that mapping: the connection's id, whether events can be kept at present, and the agent's version."""
