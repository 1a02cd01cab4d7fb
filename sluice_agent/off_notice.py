"""The log line with the reason why the agent is off, logged once, where it can be seen."""

from __future__ import annotations

from typing import Any

from sluice_agent.log import logger

_TEXT = "sluice-agent is off: %s"


def log_off(reason: str) -> None:
    """Log that the agent is off: now if this process logs already, else once its worker has set up its log."""
    if logger.hasHandlers():
        logger.info(_TEXT, reason)
        return
    from celery import signals  # noqa: PLC0415 - not in a process where the agent is on

    def log_when_ready(**_: Any) -> None:
        logger.info(_TEXT, reason)

    signals.worker_ready.connect(log_when_ready, weak=False, dispatch_uid="sluice_agent.off")
