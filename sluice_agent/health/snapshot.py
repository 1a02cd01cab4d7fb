"""What there is to say: one look at the journal, its shippers and the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_agent.transport.accounting import Report

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState


@dataclass(frozen=True, slots=True)
class Health:
    """A process at one moment."""

    report: Report
    """The journal's folder and its destinations, as ``sluice-agent status --json`` has them."""
    problems: Mapping[str, str]
    """Why it is not ready, by the problem's name, in a sentence each; empty: it is ready."""
    most_bytes: int
    """How many bytes the journal may take."""
    monitor: MonitorState | None = None
    """None where nothing is monitored: a process that only ships."""
