"""gevent and eventlet: capture, flush and shutdown where threads are greenlets, and one that blocks stops them all."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest

from tests.faults.host import Host
from tests.support.misbehaviour import drips, lost_answer, status

GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    from gevent import sleep, spawn
"""
EVENTLET = """
    import eventlet
    eventlet.monkey_patch()
    from eventlet import sleep, spawn
"""
CAPTURES = """
    import json, os, sys, threading, time
    from tests.faults.app import noop
    import sluice_agent

    seconds = float(sys.argv[1])
    late, work, stopped = [], [], []

    def tick():
        while not stopped:
            begun, worked = time.perf_counter(), time.thread_time()
            sleep(0.001)
            late.append(time.perf_counter() - begun - 0.001)
            work.append(time.thread_time() - worked)

    def publish():
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            noop.delay()
            count += 1
            sleep(0.01)
        return count

    noop.delay()
    assert sluice_agent.flush(10)
    ticking = spawn(tick)
    count = publish() + 1
    stopped.append(True)
    sleep(0.01)
    assert sluice_agent.flush(20), sluice_agent.stats()
    sluice_agent.shutdown()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("sluice")]
    native = [name for name in os.listdir("/proc/self/task")]
    late.sort()
    work.sort()
    print(json.dumps({"count": count, "left": left, "threads": len(native), "ticks": len(late), "work": 1000 * work[-1],
                      **{name: 1000 * late[int(len(late) * share)]
                         for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1 - 1e-9))}}))
"""


MAX_LATENESS = 20  # milliseconds
ATTEMPTS = 3  # a stall that the agent causes occurs in each; one that other processes on this machine cause does not


@pytest.mark.alone
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_hub_is_not_stalled_and_no_thread_is_left(
    host: Host, repeats: Callable[[int, int], int], capsys: pytest.CaptureFixture[str], library: str
) -> None:
    """Without it a pool of a thousand greenlets stalls while the agent waits for an answer, or never ends.

    A greenlet that ticks each millisecond measures how late it is, while others publish and the shipper meets an
    endpoint that answers slowly, badly, or not at all. FAULTS=long is for a quiet machine, and has a stricter limit.
    """
    stalled = repeats(20, 5)  # milliseconds
    code = textwrap.dedent({"gevent": GEVENT, "eventlet": EVENTLET}[library]) + textwrap.dedent(CAPTURES)
    counted, worked, late = 0, [], []
    while not (worked and min(worked) < stalled and min(late) < MAX_LATENESS) and len(worked) < ATTEMPTS:
        host.endpoint.script(status(503), drips(0.002), lost_answer, status(500))
        process = host.start("-c", code, "3", env={"SLUICE_FLUSH_INTERVAL": "0.1"})
        assert process.wait(60) == 0, process.tail()
        figures = json.loads(process.logs().splitlines()[-1])
        with capsys.disabled():
            ticks = ", ".join(f"{name} {figures[name]:.2f} ms" for name in ("p50", "p95", "p99", "most"))
            print(f"\n{library}: a tick is late by {ticks} ({figures['ticks']} ticks)")
            print(f"{library}: between two ticks the hub works for {figures['work']:.2f} ms at the most")
        assert figures["left"] == []
        counted += figures["count"]
        worked.append(figures["work"])
        late.append(figures["p95"])
    assert min(worked) < stalled
    assert min(late) < MAX_LATENESS  # the agent does not block; the rest is the load of other processes
    report = host.settled()
    assert report["captured"] == counted == report["delivered"]


FLUSHES = """
    import threading, time
    from tests.faults.app import noop
    import sluice_agent

    noop.delay()
    begun = time.monotonic()
    assert not sluice_agent.flush(0.5)
    assert time.monotonic() - begun < 3
    sluice_agent.shutdown(0.5)
    assert time.monotonic() - begun < 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sluice")]
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_an_unavailable_endpoint_does_not_delay_the_exit(host: Host, library: str) -> None:
    """Without it a deployment waits for the endpoint, until its supervisor kills the process."""
    host.endpoint.down()
    code = textwrap.dedent({"gevent": GEVENT, "eventlet": EVENTLET}[library]) + textwrap.dedent(FLUSHES)
    process = host.start("-c", code)
    assert process.wait(30) == 0, process.tail()
    assert host.balanced()["pending"] == 1
    host.endpoint.up()
    host.ship_once()
    assert host.settled()["delivered"] == 1
