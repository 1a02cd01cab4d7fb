"""uWSGI as a host: decide whether the agent may start a thread in a process.

uWSGI forks its workers in C, without Python's hooks. If another thread waits for the GIL at the fork, the child blocks
for ever at its first step, waiting for that thread: so no thread of ours may exist before the fork. Before 2.0.27,
uWSGI keeps the GIL between requests unless threads are enabled, and a thread then hardly runs.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from sluice_agent.log import warn_limited

_FIRST_WITH_THREADS = (2, 0, 27)  # the first version that runs threads by default
# Each of these options lets threads, or greenlets, run.
_OPTIONS = ("enable-threads", "threads", "gevent", "asyncio", "greenlet")


def can_run_threads() -> bool:
    """Return whether a thread that is started here runs, and no fork follows. True if the host is not uWSGI."""
    uwsgi: Any = sys.modules.get("uwsgi")  # uWSGI puts it into its processes; no other host does
    if uwsgi is None:
        return True
    try:
        is_forked = uwsgi.worker_id() > 0 or 0 < uwsgi.masterpid() != os.getpid()
        version = tuple(map(int, re.findall(rb"[0-9]+", uwsgi.version)[:3]))
        are_enabled = version >= _FIRST_WITH_THREADS or any(name in uwsgi.opt for name in _OPTIONS)
    except (AttributeError, TypeError):  # another module of that name
        return True
    if is_forked and not are_enabled:
        warn_limited(
            "uwsgi",
            "uWSGI runs no Python threads without enable-threads: events are written, but not sent from here. Set "
            "enable-threads, or let a worker or `sluice-agent ship` on this host send them.",
        )
    return is_forked and are_enabled
