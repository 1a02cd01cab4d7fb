"""gevent and eventlet: capture, flush and shutdown where threads are greenlets, and one that waits stops them all."""

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
    late, work, over = [], [], []

    def tick():
        while not over:
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
    over.append(True)
    sleep(0.01)
    assert sluice_agent.flush(20), sluice_agent.stats()
    sluice_agent.shutdown()
    left = [one.name for one in threading.enumerate() if one.name.startswith("sluice")]
    native = [name for name in os.listdir("/proc/self/task")]
    late.sort()
    work.sort()
    print(json.dumps({"count": count, "left": left, "threads": len(native), "ticks": len(late), "work": 1000 * work[-1],
                      **{name: 1000 * late[int(len(late) * share)]
                         for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1 - 1e-9))}}))
"""


LATE = 20  # milliseconds
TURNS = 3  # a stall of the agent's making is there in each; one that others on this machine caused is not


@pytest.mark.alone
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_hub_is_not_stalled_and_nothing_is_left_over(
    host: Host, repeats: Callable[[int, int], int], capsys: pytest.CaptureFixture[str], library: str
) -> None:
    """Without it a pool of a thousand greenlets stands still while the agent waits for an answer, or never ends.

    A greenlet that ticks each millisecond measures how late it is, while others publish and the shipper meets an
    endpoint that answers slowly, badly, or not at all. FAULTS=long is for a quiet machine, and has no mercy.
    """
    stalled = repeats(20, 5)  # milliseconds
    code = textwrap.dedent({"gevent": GEVENT, "eventlet": EVENTLET}[library]) + textwrap.dedent(CAPTURES)
    counted, worked, late = 0, [], []
    while not (worked and min(worked) < stalled and min(late) < LATE) and len(worked) < TURNS:
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
    assert min(late) < LATE  # it waits for nobody; the rest is what other processes take of this machine
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
    assert not [one for one in threading.enumerate() if one.name.startswith("sluice")]
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_an_end_is_not_held_up_by_an_endpoint_that_is_away(host: Host, library: str) -> None:
    """Without it a deployment waits for the endpoint, and is killed by who waits for the deployment."""
    host.endpoint.down()
    code = textwrap.dedent({"gevent": GEVENT, "eventlet": EVENTLET}[library]) + textwrap.dedent(FLUSHES)
    process = host.start("-c", code)
    assert process.wait(30) == 0, process.tail()
    assert host.balanced()["pending"] == 1
    host.endpoint.up()
    host.ship_once()
    assert host.settled()["delivered"] == 1
