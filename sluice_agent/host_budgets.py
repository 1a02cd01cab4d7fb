"""The time that the agent may take from its host, in seconds."""

from __future__ import annotations

EXIT_BUDGET = 5.0
"""What a process that exits may spend on delivery."""

RESIGN_BUDGET = 1.0
"""Of these, what it may spend to pass the sampling of the queues on to another process."""
