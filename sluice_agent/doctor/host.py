"""This host: the settings, the directory of the journal, and the process that ships it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.settings import DEFAULT_API_URL, Settings
from sluice_agent.transport.delivery.destinations import DESTINATIONS, SLUICE, Destination, configured
from sluice_agent.transport.journal.directory import find_directory, nearest_existing, open_directory
from sluice_agent.transport.journal.ship_lock import STALLED_SECONDS, current_shipper, seconds_since_touch

_OFFLINE_AFTER = 6.0  # seconds without a heartbeat after which Sluice shows a worker offline
_FREE_PLAN = 10_000  # events a day
_DAY = 86_400  # seconds
_UWSGI_WITH_THREADS = (2, 0, 27)  # the first version that runs Python threads by default


def check_settings(settings: Settings, destinations: tuple[Destination, ...] = DESTINATIONS) -> Iterator[Finding]:
    """Check whether the agent is on, and report the effect of its settings."""
    if not settings.enabled:
        yield fault("settings", "SLUICE_ENABLED is 0: the agent is off", "unset it, or set it to 1")
    elif not settings.active:
        variables = (
            f"{destination.key_variable} and SLUICE_CONNECTION_ID"
            if destination.needs_connection
            else destination.key_variable
            for destination in destinations
        )
        yield fault("settings", "no key is set: the agent is off", f"set {', or '.join(variables)}")
    else:
        yield ok("settings", f"well-formed; connection {settings.connection}")
    if settings.ship == "never":
        todo = "run `sluice-agent ship` beside it, on the same SLUICE_STATE_DIR"
        yield note("settings", "SLUICE_SHIP is never: this process only writes the journal", todo)
    interval, has_sluice_key = settings.heartbeat_interval, SLUICE.key(settings) is not None
    is_hosted = settings.api_url == DEFAULT_API_URL  # a server of one's own has no plan
    if has_sluice_key and (not interval or interval >= _OFFLINE_AFTER):
        found = (
            f"SLUICE_HEARTBEAT_INTERVAL is {interval:g} s, and Sluice shows a worker offline after {_OFFLINE_AFTER:g} s"
        )
        yield warning("settings", found, "set it to 5, unless you don't look at workers there")
    elif has_sluice_key and is_hosted and settings.daily_budget is None and _DAY / interval > _FREE_PLAN:
        found = f"a worker's heartbeats are {_DAY / interval:,.0f} events a day; the free plan accepts {_FREE_PLAN:,}"
        yield note("settings", found, "on that plan, set SLUICE_DAILY_BUDGET or a longer SLUICE_HEARTBEAT_INTERVAL")


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Check that the journal's directory is ours, private, and has room. Creates no directory."""
    try:
        directory = find_directory(settings.state_dir, str(settings.connection))
        exists = directory.is_dir()
        if exists:
            directory = open_directory(settings.state_dir, str(settings.connection))
    except JournalUnavailableError as error:
        yield fault("folder", str(error), "correct it: without a directory the agent turns itself off")
        return
    text = "can be written, by this user only" if exists else "does not exist yet, and this user can create it"
    yield ok("folder", f"{directory} {text}")
    free = shutil.disk_usage(nearest_existing(directory)).free
    if free < settings.journal_max_bytes:
        found = f"{free:,} bytes are free, and the journal may take {settings.journal_max_bytes:,}"
        yield warning("folder", found, "free some, set SLUICE_STATE_DIR elsewhere, or lower SLUICE_JOURNAL_MAX_BYTES")
    if settings.state_dir is None and directory.parts[1:2] in (("tmp",), ("dev",)):
        found = "the directory does not survive a restart of the machine or the container"
        yield warning("folder", found, "set SLUICE_STATE_DIR to a directory or a volume that does")


def check_shipper(settings: Settings, destinations: tuple[Destination, ...] = DESTINATIONS) -> Iterator[Finding]:
    """Check that the process that ships the journal makes progress, and that uWSGI, if installed, runs threads."""
    try:
        directory = find_directory(settings.state_dir, str(settings.connection))
    except JournalUnavailableError:
        return  # check_folder reports it
    for name in (destination.name for destination in configured(settings, destinations)):
        holder, silent_for = current_shipper(directory, name), seconds_since_touch(directory, name)
        if holder is not None and silent_for > STALLED_SECONDS:
            found = f"process {holder.get('pid')} ships to {name}, and has made no progress for {silent_for:,.0f} s"
            yield warning("shipper", found, "let it run threads (uWSGI: enable-threads), or run a worker beside it")
    yield from _uwsgi()


def _uwsgi() -> Iterator[Finding]:
    for name in ("uwsgi", "pyuwsgi"):
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if tuple(map(int, re.findall(r"[0-9]+", installed)[:3])) < _UWSGI_WITH_THREADS:
            found = f"uWSGI {installed} runs no Python threads by default, and its processes ship events from a thread"
            yield warning("shipper", found, "set enable-threads, or run a worker or `sluice-agent ship` beside it")
