"""Patches of the processes of these tests, applied at their start: each simulates a fault, or shortens a wait.

TEST_CAPTURE_LOG  a file: the id of each event that the process captures is appended
TEST_SHORT_WAITS  1: the transport's waits of minutes take fractions of a second
TEST_CLOCK        a file: the wall clock is wrong by the seconds in it
TEST_NO_LOCKS     1: the file system can't lock, like some network file systems
TEST_SLOW_POOL    a file: while it exists, a pool that has found a dead process stops there; `….found` is created then;
                  `….up` gets a line for each process that takes jobs
TEST_PRIVILEGES   1: a process that stops being root can still read the clone and its Python, wherever they are
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from tests.support import capture_log, privileges


def apply() -> None:
    """Apply the patches that the environment selects."""
    if os.environ.get("TEST_CLOCK"):
        _shift_the_clock(Path(os.environ["TEST_CLOCK"]))
    if os.environ.get("TEST_NO_LOCKS") == "1":
        _refuse_locks()
    if os.environ.get("TEST_PRIVILEGES") == "1":
        privileges.keep_reading()
    if os.environ.get("TEST_SLOW_POOL"):
        _slow_down_the_pool(Path(os.environ["TEST_SLOW_POOL"]))
    capture_log.start()
    if os.environ.get("TEST_SHORT_WAITS") == "1":
        shorten_waits()


def shorten_waits() -> None:
    """Change only the lengths: the processes that wait, the reasons and the number of waits are those of production."""
    from sluice_agent.transport.delivery import client, responses
    from sluice_agent.transport.delivery.destinations import DESTINATIONS
    from sluice_agent.transport.delivery.http import Timeouts
    from sluice_agent.transport.delivery.shippers import Shippers
    from sluice_agent.transport.delivery.timing import Timing
    from sluice_agent.transport.journal import ship_lock

    timing = Timing(first_backoff=0.05, max_backoff=0.2, correction=0.2, takeover_check=0.1, fault_pause=0.2)
    Shippers.__init__.__defaults__ = (DESTINATIONS, timing)  # the agent passes none
    client.TIMEOUTS = Timeouts(connect=1.0, silence=1.0, response=1.0)
    responses.MAX_WAIT = 1.0
    ship_lock._YIELD_SECONDS = 0.5
    ship_lock._YIELD_EVERY = 3.0


def _refuse_locks() -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse


def _shift_the_clock(file: Path) -> None:
    """Shift `time.time` and `time.time_ns` for later imports of this process; the monotonic clock stays right."""
    right, right_ns = time.time, time.time_ns
    shift = lambda: float(file.read_text() or 0)  # noqa: E731 - one line suffices
    time.time = lambda: right() + shift()
    time.time_ns = lambda: right_ns() + int(shift() * 1e9)


def _slow_down_the_pool(file: Path) -> None:
    """Block the pool of a worker's main process, as on a busy machine, for as long as the file exists; and record its
    processes: one that is stopped before the pool knows it is given no job."""
    from celery.concurrency.asynpool import AsynPool

    flush, on_process_alive = AsynPool.process_flush_queues, AsynPool.on_process_alive

    def process_alive(pool: AsynPool, pid: int) -> None:
        on_process_alive(pool, pid)
        with file.with_suffix(".up").open("a") as up:
            up.write(f"{pid}\n")

    def process_flush_queues(pool: AsynPool, process: object) -> None:
        flush(pool, process)
        if file.exists():
            file.with_suffix(".found").touch()
        while file.exists():
            time.sleep(0.01)

    AsynPool.process_flush_queues, AsynPool.on_process_alive = process_flush_queues, process_alive
