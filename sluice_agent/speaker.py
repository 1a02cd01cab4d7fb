"""How a worker's own agent makes itself known in Celery's events: what it tells of itself, a monitor leaves to it."""

from __future__ import annotations

FIELD = "sluice_agent"
"""The field of a worker's events that names the connection which its agent speaks to."""
