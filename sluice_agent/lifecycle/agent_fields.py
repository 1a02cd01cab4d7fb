"""The fields by which an agent announces what it reports, so that a monitor on the same cluster does not report it."""

from __future__ import annotations

AGENT = "sluice_agent"
"""The field that names an agent which reports: in worker events and in `task-sent` it holds the connection's id, in the
reply to `inspect stats` a mapping."""
CREATED_AT = "sluice_created_at"
"""The field of `task-sent` that holds the job's creation time, as the agent has reported it."""

CONNECTION, REPORTS, VERSION = "connectionId", "reports", "version"
"""The members of that mapping: the connection's id, whether events can be kept at present, and the agent's version."""
