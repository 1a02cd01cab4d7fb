"""A snapshot of the journal, its shippers and the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_agent.transport.journal.accounting import Report

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a process at one time."""

    report: Report
    """The journal's directory and its destinations, as in ``sluice-agent status --json``."""
    problems: Mapping[str, str]
    """Why it is not ready: a sentence by the problem's name; empty if it is ready."""
    max_bytes: int
    """The journal's limit in bytes."""
    monitor: MonitorState | None = None
    """None in a process that only ships."""
