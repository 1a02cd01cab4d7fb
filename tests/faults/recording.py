"""A journal that a real process wrote, for tests that need events rather than the process."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from tests.faults.host import IN_MEMORY, NEVER
from tests.support.python_forks import run_fork
from tests.support.worker import python_env

EVENTS = 40
NAME = "00000000000000000002-events-1-00000000.v1.ndjson"


def journal_file(directory: Path) -> Path:
    """Return the only segment of a process."""
    [path] = directory.glob("*.ndjson")
    return path


def record(directory: Path) -> tuple[str, bytes]:
    """Publish `EVENTS` tasks in a process; return its connection id and the content of its journal."""
    connection = str(uuid.uuid4())
    settings = {"SLUICE_CONNECTION_ID": connection, "SLUICE_STATE_DIR": str(directory), **NEVER}
    command = [sys.executable, "-m", "tests.faults.publish", str(EVENTS)]
    run_fork(command, python_env(IN_MEMORY, settings), 60).check_returncode()
    return connection, journal_file(directory / connection).read_bytes()
