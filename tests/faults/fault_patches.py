"""What the processes of these tests do before they begin: patches that stand for a fault, or make it pass sooner.

TEST_CAPTURE_LOG      a file: each event that the process captures is noted there
TEST_SHORT_WAITS  1: what the transport waits for in minutes it waits for in fractions of a second
TEST_CLOCK        a file: the wall clock goes wrong by the seconds that stand in it
TEST_NO_LOCKS     1: the file system can't lock, as some that come over a network
TEST_SLOW_POOL    a file: while it is there, a pool that has found a dead process does not go on; `….looks` shows it
TEST_PRIVILEGES   1: who becomes another user than root can still read the clone and its Python, wherever they lie
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from tests.support import capture_log, privileges


def apply() -> None:
    """Do what the environment asks for."""
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
    """Only the lengths change: who waits, for what and how often is as it is in production."""
    import httpx
    from tenacity import wait_random_exponential

    from sluice_agent.transport import http, lock, responses, retry, shipper

    retry._full_jitter = wait_random_exponential(multiplier=0.05, max=0.2)
    responses._MINUTE = 0.2
    responses.LONGEST_WAIT = 1.0
    shipper._TAKE_OVER_EVERY = 0.1
    lock._COURTESY = 0.5
    lock._COURTESY_EVERY = 3.0
    shipper._AFTER_A_FAULT = 0.2
    http._TIMEOUT = httpx.Timeout(1.0)
    http._DEADLINE = 1.0


def _refuse_locks() -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse


def _shift_the_clock(file: Path) -> None:
    """`time.time` and `time.time_ns` for all that this process imports from now on; the monotonic clock stays right."""
    right, right_ns = time.time, time.time_ns
    shift = lambda: float(file.read_text() or 0)  # noqa: E731 - one line says it
    time.time = lambda: right() + shift()
    time.time_ns = lambda: right_ns() + int(shift() * 1e9)


def _slow_down_the_pool(file: Path) -> None:
    """What the main process of a busy machine's worker does in moments takes as long as the file is there."""
    from celery.concurrency.asynpool import AsynPool

    flush = AsynPool.process_flush_queues

    def process_flush_queues(pool: AsynPool, process: object) -> None:
        flush(pool, process)
        if file.exists():
            file.with_suffix(".looks").touch()
        while file.exists():
            time.sleep(0.01)

    AsynPool.process_flush_queues = process_flush_queues
