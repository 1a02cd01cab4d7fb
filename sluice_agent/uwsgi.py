"""uWSGI as a host: where a thread of ours may be started.

It forks its workers in C, without Python's hooks. A child of a process in which another thread has asked for the GIL
waits for that thread at its first step, for ever: so none of ours may be there before the fork. Before 2.0.27 it keeps
the GIL between requests unless threads are enabled, and a thread then hardly runs.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from sluice_agent.log import complain

_RUNS_THREADS = (2, 0, 27)  # the first version that does so by itself
_OPTIONS = ("enable-threads", "threads", "gevent", "asyncio", "greenlet")  # with any of them threads, or greenlets, run


def threads_run() -> bool:
    """Whether a thread that is started here runs, and is there in no fork. True where the host is not uWSGI."""
    uwsgi: Any = sys.modules.get("uwsgi")  # it is there in the processes of uWSGI, and in no other
    if uwsgi is None:
        return True
    try:
        is_forked = uwsgi.worker_id() > 0 or 0 < uwsgi.masterpid() != os.getpid()
        version = tuple(map(int, re.findall(rb"[0-9]+", uwsgi.version)[:3]))
        are_enabled = version >= _RUNS_THREADS or any(name in uwsgi.opt for name in _OPTIONS)
    except (AttributeError, TypeError):  # a module of that name that is none of uWSGI's
        return True
    if is_forked and not are_enabled:
        complain(
            "uwsgi",
            "uWSGI runs no Python threads without enable-threads: events are written, and wait for a worker or "
            "`sluice-agent ship` on this host to send them.",
        )
    return is_forked and are_enabled
