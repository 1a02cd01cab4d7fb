"""What a process of ours says to probes and to Prometheus, over HTTP. It only reads: nothing of the work is in here."""

from __future__ import annotations

from sluice_agent.health.health import Health
from sluice_agent.health.serving import HealthServer, serve_health

__all__ = ["Health", "HealthServer", "serve_health"]
