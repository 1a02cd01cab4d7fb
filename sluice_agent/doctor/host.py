"""This host: the settings, the folder where the journal lies, and the process that ships it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.settings import Settings
from sluice_agent.transport.directory import find_directory, nearest_existing, open_directory
from sluice_agent.transport.lock import STALLED_SECONDS, seconds_since_touch, who_ships
from sluice_agent.transport.shippers import destinations

_OFFLINE_AFTER = 6.0  # seconds without a heartbeat: then Sluice shows a worker offline
_FREE_PLAN = 10_000  # events a day
_DAY = 86_400  # seconds
_RUNS_THREADS = (2, 0, 27)  # the first version of uWSGI that does so by itself


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
        directory = find_directory(settings.state_dir, str(settings.connection))
        is_there = directory.is_dir()
        if is_there:
            directory = open_directory(settings.state_dir, str(settings.connection))
    except JournalUnavailableError as error:
        yield fault("folder", str(error), "without a folder the agent switches itself off")
        return
    is_well = "can be written, and is this user's alone" if is_there else "is not there yet, and this user can make it"
    yield ok("folder", f"{directory} {is_well}")
    free = shutil.disk_usage(nearest_existing(directory)).free
    if free < settings.journal_max_bytes:
        found = f"{free:,} bytes are free, and the journal may take {settings.journal_max_bytes:,}"
        yield warning("folder", found, "free some, set SLUICE_STATE_DIR elsewhere, or lower SLUICE_JOURNAL_MAX_BYTES")
    if settings.state_dir is None and directory.parts[1:2] in (("tmp",), ("dev",)):
        found = "it does not outlive a restart of the machine or the container"
        yield warning("folder", found, "set SLUICE_STATE_DIR to a folder or a volume that does")


def check_shipper(settings: Settings) -> Iterator[Finding]:
    """Whether the process that ships the journal moves, and what uWSGI needs, where it is installed."""
    try:
        directory = find_directory(settings.state_dir, str(settings.connection))
    except JournalUnavailableError:
        return  # said of the folder
    for name in destinations(settings):
        holder, silent_for = who_ships(directory, name), seconds_since_touch(directory, name)
        if holder is not None and silent_for > STALLED_SECONDS:
            found = f"process {holder.get('pid')} ships to {name}, and has not moved for {silent_for:,.0f} s"
            yield warning("shipper", found, "let it run threads (uWSGI: enable-threads), or run a worker beside it")
    yield from _uwsgi()


def _uwsgi() -> Iterator[Finding]:
    for name in ("uwsgi", "pyuwsgi"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if tuple(map(int, re.findall(r"[0-9]+", found)[:3])) < _RUNS_THREADS:
            found = f"uWSGI {found} runs no Python threads by itself, and what its processes publish is sent from one"
            yield warning("shipper", found, "set enable-threads, or run a worker or `sluice-agent ship` beside it")
