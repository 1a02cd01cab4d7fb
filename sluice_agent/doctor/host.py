"""This host: the settings, and the folder where the journal lies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.settings import Settings
from sluice_agent.transport.folder import find_folder, nearest_existing, open_folder

_OFFLINE_AFTER = 6.0  # seconds without a heartbeat: then Sluice shows a worker offline
_FREE_PLAN = 10_000  # events a day
_DAY = 86_400  # seconds


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Whether the agent is on, and what its settings mean."""
    if not settings.enabled:
        yield fault("settings", "SLUICE_ENABLED is 0: the agent is off", "unset it, or set it to 1")
    elif not settings.active:
        todo = "set SLUICE_API_KEY and SLUICE_CONNECTION_ID, or ACKLY_INGEST_KEY"
        yield fault("settings", "no key is set: the agent is off", todo)
    else:
        yield ok("settings", f"well-formed; connection {settings.connection}")
    if settings.ship == "never":
        todo = "run `sluice-agent ship` beside it, on the same SLUICE_STATE_DIR"
        yield note("settings", "SLUICE_SHIP is never: this process only writes the journal", todo)
    interval = settings.heartbeat_interval
    if settings.api_key is not None and (not interval or interval >= _OFFLINE_AFTER):
        found = (
            f"SLUICE_HEARTBEAT_INTERVAL is {interval:g} s, and Sluice shows a worker offline after {_OFFLINE_AFTER:g} s"
        )
        yield warning("settings", found, "set it to 5, unless you don't look at workers there")
    elif settings.api_key is not None and settings.daily_budget is None and _DAY / interval > _FREE_PLAN:
        found = (
            f"the heartbeats of one worker are {_DAY / interval:,.0f} events a day; the free plan takes {_FREE_PLAN:,}"
        )
        yield note("settings", found, "on that plan, set SLUICE_DAILY_BUDGET or a longer SLUICE_HEARTBEAT_INTERVAL")


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the journal's folder is ours, private, and has room. One that is not there yet is not made."""
    try:
        folder = find_folder(settings.state_dir, str(settings.connection))
        is_there = folder.is_dir()
        if is_there:
            folder = open_folder(settings.state_dir, str(settings.connection))
    except JournalUnavailableError as error:
        yield fault("folder", str(error), "without a folder the agent switches itself off")
        return
    is_well = "can be written, and is this user's alone" if is_there else "is not there yet, and this user can make it"
    yield ok("folder", f"{folder} {is_well}")
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < settings.journal_max_bytes:
        found = f"{free:,} bytes are free, and the journal may take {settings.journal_max_bytes:,}"
        yield warning("folder", found, "free some, set SLUICE_STATE_DIR elsewhere, or lower SLUICE_JOURNAL_MAX_BYTES")
    if settings.state_dir is None and folder.parts[1:2] in (("tmp",), ("dev",)):
        found = "it does not outlive a restart of the machine or the container"
        yield warning("folder", found, "set SLUICE_STATE_DIR to a folder or a volume that does")
