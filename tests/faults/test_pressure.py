"""Twenty times more events than the endpoint accepts: the host never waits, the disk does not fill, all is counted."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable

import pytest

from sluice_agent.transport.journal.directory import directory_bytes
from tests.faults.host import Host
from tests.support.capture_log import captured_ids
from tests.support.endpoint import event_id_of
from tests.support.ingest_server import Exchange
from tests.support.misbehaviour import Behaviour
from tests.support.waiting import wait_until

LIMIT = 4_000_000  # bytes
BATCH = 50
A_SECOND = 100  # events that the endpoint accepts
PRESSURE = 20

PRESSES = """
    import json, os, sys, time
    from tests.faults.app import noop
    from sluice_agent import _public
    from sluice_agent.transport.journal.writer import JournalWriter

    seconds, a_second, beat = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    costs, work, append = [], [], JournalWriter.append

    def timed(self, *arguments):
        begun, worked = time.perf_counter(), time.thread_time()
        append(self, *arguments)
        work.append(time.thread_time() - worked)
        costs.append(time.perf_counter() - begun)

    JournalWriter.append = timed
    begun = time.monotonic()
    while len(costs) < seconds * a_second:
        noop.delay()
        if len(costs) % 10 == 0:
            _public._agent.capture(beat.replace("NUMBER", f"beat-{len(costs)}").encode())
        time.sleep(max(len(costs) / a_second - (time.monotonic() - begun), 0))
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1 - 1e-9}
    figures = {}
    for kind, times in (("", costs), (" of work", work)):
        times.sort()
        figures |= {name + kind: times[int(len(times) * share)] * 1000 for name, share in shares.items()}
    print(json.dumps(figures), flush=True)
"""


def slow(a_second: float) -> Behaviour:
    """Accept so many events a second on each connection."""

    def behave(exchange: Exchange) -> bool:
        time.sleep(len(exchange.request.events) / a_second)
        return False

    return behave


MANY = 48
MANY_WRITE = """
    import json, os, sys, time
    from pathlib import Path
    from sluice_agent.transport.journal.writer import JournalWriter

    directory, limit, many = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def write(number):
        journal = JournalWriter(directory, limit)
        for _ in range(2 * limit // many // 400):
            journal.append(b'{"type":"job_state_change","x":"' + b"x" * 365 + b'"}')
            time.sleep(0.0005)
        journal.close()
        os._exit(0)

    left = {pid for pid in (os.fork() or write(number) for number in range(many))}
    most = 0
    while left:
        sizes = 0
        for entry in os.scandir(directory):
            try:
                sizes += entry.stat().st_size
            except FileNotFoundError:
                pass
        most = max(most, sizes)
        pid, status = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        assert status == 0
    print(json.dumps({"most": most}))
"""


def test_many_processes_together_keep_the_limit(pressed: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it a pool of many children fills the disk: no process may evict a segment that another still writes."""
    pressed.journal.mkdir(mode=0o700)
    process = pressed.start("-c", textwrap.dedent(MANY_WRITE), str(pressed.journal), str(LIMIT), str(MANY))
    assert process.wait(60) == 0, process.tail()
    most = json.loads(process.logs().splitlines()[-1])["most"]
    with capsys.disabled():
        print(f"\npressure: {MANY} processes wrote twice the limit; the directory took at most {most} of {LIMIT} bytes")
    assert LIMIT / 2 < most <= LIMIT


@pytest.fixture
def pressed(new_host: Callable[..., Host]) -> Host:
    """A host with a small journal."""
    return new_host({"SLUICE_JOURNAL_MAX_BYTES": str(LIMIT), "SLUICE_BATCH_SIZE": str(BATCH), "TEST_SHORT_WAITS": "0"})


@pytest.mark.alone
def test_the_host_never_waits_and_all_is_counted(
    pressed: Host, repeats: Callable[[int, int], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it an endpoint that is slow for an hour stops the tasks, fills the disk, or loses the newest events.

    The process ships its own events, as a producer does.
    """
    endpoint, seconds = pressed.endpoint, repeats(7, 60)
    endpoint.standing(slow(A_SECOND))
    publisher = pressed.start("-c", textwrap.dedent(PRESSES), str(seconds), str(A_SECOND * PRESSURE), beat(pressed))
    sizes: list[int] = []
    while publisher.running and "p99.9" not in publisher.logs():
        sizes.append(directory_bytes(pressed.journal))
        time.sleep(0.01)
    accepted = len(endpoint.events)
    endpoint.standing()
    assert publisher.wait(60) == 0, publisher.tail()
    wait_until(lambda: pressed.ship_once() and not pressed.files(), 60, "files stay", pressed.report)
    report = pressed.settled()

    costs = json.loads(publisher.logs().splitlines()[-1])
    figures = ", ".join(f"{name} {cost:.3f} ms" for name, cost in costs.items())
    with capsys.disabled():
        print(f"\npressure: {report['captured']} events, {accepted} accepted meanwhile, {report['dropped']}")
        print(f"pressure: an append takes {figures}; the directory at most {max(sizes)} of {LIMIT} bytes")
    assert costs["p99.9 of work"] < repeats(10, 1)  # the rest of its time is the load of other processes
    assert costs["p99.9"] < 100
    assert max(sizes) <= LIMIT
    assert report["dropped"].keys() == {"journal_full"}

    captured = captured_ids(pressed.env) or []
    received = {event_id_of(event) for event in endpoint.events}
    jobs = [event_id for event_id in captured if not event_id.startswith("beat-")]
    beats = [event_id for event_id in captured if event_id.startswith("beat-")]
    assert all(job in received for job in jobs[-3_000:])  # the newest fill half of the limit
    dropped_jobs, dropped_beats = (sum(name not in received for name in ids) / len(ids) for ids in (jobs, beats))
    assert dropped_beats > dropped_jobs > 0
    with capsys.disabled():
        print(f"pressure: {dropped_beats:.0%} of the heartbeats were dropped, {dropped_jobs:.0%} of the jobs' events")


def beat(host: Host) -> str:
    """Return the template of a heartbeat, with NUMBER in place of its number."""
    worker = {
        "externalId": "NUMBER",
        "hostname": "h",
        "pid": 1,
        "state": "heartbeat",
        "metadata": {"eventId": "NUMBER"},
    }
    envelope = {"timestamp": "2026-01-01T00:00:00Z", "framework": "celery", "connectionId": host.journal.name}
    return json.dumps({"type": "worker_heartbeat", **envelope, "worker": worker}, separators=(",", ":"))
