"""What a process of ours says to probes and to Prometheus, over HTTP. It only reads: nothing of the work is in here."""

from __future__ import annotations

from sluice_agent.health.server import HealthServer, serve_health
from sluice_agent.health.snapshot import Health

__all__ = ["Health", "HealthServer", "serve_health"]
