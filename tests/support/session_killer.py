"""Ends the processes of a test run that dies without cleaning up (SIGKILL, a crashed interpreter).

Runs as a separate process that imports only the standard library. Each line of its input is `+<session>` or
`-<session>`; when the input ends, the writer is gone, and every session that is still on the list is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def members(session: int) -> list[int]:
    """Return the ids of all processes of a session, in any process group."""
    processes = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, owner = fields[0], int(fields[3])
        if owner == session and state != "Z":
            processes.append(int(stat.parent.name))
    return processes


def kill_session(session: int) -> None:
    """Send SIGKILL to every member, repeatedly, until no process is left that could have forked meanwhile."""
    for _ in range(20):
        alive = members(session)
        if not alive:
            return
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        session = int(line[1:])
        (sessions.add if line[0] == "+" else sessions.discard)(session)
    for session in sessions:
        kill_session(session)


if __name__ == "__main__":
    main()
