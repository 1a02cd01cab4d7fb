"""The HTTP endpoint of our processes for probes and Prometheus. It only reads; the work is done elsewhere."""

from __future__ import annotations

from sluice_agent.health.server import HealthServer, serve_health
from sluice_agent.health.snapshot import Health

__all__ = ["Health", "HealthServer", "serve_health"]
