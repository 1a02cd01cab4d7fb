"""The two lines of a healthy worker or shipper: where events go, at its start, and what is left, at its stop."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from sluice_agent.log import logger
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import Destination, configured
from sluice_agent.transport.journal.accounting import accounts
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.directory import directory_bytes
from sluice_agent.transport.journal.ship_lock import current_shipper

_MAX_COUNTED = 16_000_000  # bytes of a journal whose events are counted at the stop, which takes 70 ms


def log_start(settings: Settings, directory: Path, subject: str) -> None:
    """Log that the agent is on for `subject`, a worker or a command: its journal, its destinations, and who ships."""
    version, delivery = sys.modules["sluice_agent"].__version__, _delivery(settings, directory)
    logger.info("sluice-agent %s is on for %s: its journal is %s, %s", version, subject, directory, delivery)


def log_stop(settings: Settings, directory: Path) -> None:
    """Log how many events are left in the journal for the next process that ships."""
    if directory_bytes(directory) > _MAX_COUNTED:
        left = f"more than {_MAX_COUNTED:,} bytes"
    else:
        names = [destination.name for destination in configured(settings)]
        waiting = {name: accounts(directory, load_cursor(cursor_path(directory, name)))["pending"] for name in names}
        left = ", ".join(f"{count:,} events for {name}" for name, count in waiting.items() if count)
    if left:
        logger.info("sluice-agent stops: %s wait in %s for the next process that ships", left, directory)
    else:
        logger.info("sluice-agent stops: everything is delivered")


def _delivery(settings: Settings, directory: Path) -> str:
    if settings.ship == "never":
        return "and another process has to ship it (SLUICE_SHIP is never): `sluice-agent ship`"
    return " and ".join(
        f"it delivers to {destination.url(settings)}, shipped by {_shipper(directory, destination)}"
        for destination in configured(settings)
    )


def _shipper(directory: Path, destination: Destination) -> str:
    shipper = current_shipper(directory, destination.name)
    if shipper is None or not shipper:
        return "the first process that takes the lock"
    if (shipper.get("pid"), shipper.get("hostname")) == (os.getpid(), socket.gethostname()):
        return "this process"
    return f"process {shipper.get('pid')} on {shipper.get('hostname')}"
