"""The names of runs: the main process names a run as it receives its job, the task process one that has no name."""

from __future__ import annotations

import os
from itertools import count
from secrets import token_hex

from sluice_agent.lifecycle.identity import agent_run_name

_TOKEN_BYTES = 6  # of a million processes of one name and pid, two have the same token with a chance of 1 in 600


class RunNames:
    """Make the names of the runs of this process, each unique for all time."""

    def __init__(self) -> None:
        self._pid, self._hostname, self._token = 0, "", ""
        self._prefix = ""
        self._numbers = count()

    def next(self, hostname: str) -> str:
        """Return a name that no other run has or will have. `hostname` is the worker's node name."""
        pid = os.getpid()
        if pid != self._pid:  # also in a process that was forked without Python's hooks
            self._token = token_hex(_TOKEN_BYTES)
            self._pid, self._hostname = pid, ""
        if hostname == self._hostname:
            return f"{self._prefix}{next(self._numbers)}"
        name = agent_run_name(hostname, pid, self._token, next(self._numbers))
        self._prefix, self._hostname = name[: name.rindex(".") + 1], hostname
        return name
