"""A fork at the worst moment: while the shipper holds its lock, files and connection, and while threads write."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest

from tests.faults.host import Host
from tests.support.accounting import assert_balanced
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

FORKS_WHILE_IT_POSTS = """
    import os, sys, threading
    from tests.faults.app import app, noop
    from sluice_agent.transport.delivery.http import HttpClient
    import sluice_agent

    post, posting, forked = HttpClient.post, threading.Event(), threading.Event()

    def child():
        app.send_task(noop.name)
        delivered = sluice_agent.flush(15)
        open(sys.argv[2], "w").close()
        while not os.path.exists(sys.argv[3]):     # it stays alive, like a pool's child
            os.stat(sys.argv[2])
            threading.Event().wait(0.05)
        os._exit(0 if delivered else 1)

    def post_and_fork(self, *request):
        if not posting.is_set():
            posting.set()
            if sys.argv[1] == "the shipper's thread":
                fork()
            assert forked.wait(10)
        return post(self, *request)

    def fork():
        global pid
        pid = os.fork()
        if pid == 0:
            child()
        forked.set()

    HttpClient.post = post_and_fork
    for _ in range(5):
        noop.delay()
    assert posting.wait(10)
    if sys.argv[1] == "another thread":
        fork()
    assert forked.wait(10)
    noop.delay()
    assert sluice_agent.flush(15)
    sluice_agent.shutdown()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("forker", ["another thread", "the shipper's thread"])
def test_a_child_that_is_forked_while_the_parent_ships(host: Host, forker: str) -> None:
    """Without it a child hangs on a lock that is never released, or keeps its parent's files on the disk for ever.

    The parent posts and holds its lock, its files and its connection. The child captures and waits for the delivery.
    """
    delivered, end = host.journal.parent / "delivered", host.journal.parent / "end"
    host.publish(3)  # a finished file, which the shipper locks while it delivers it
    parent = host.start("-c", textwrap.dedent(FORKS_WHILE_IT_POSTS), forker, str(delivered), str(end))
    wait_until(delivered.exists, 30, "the child hangs", parent.tail)
    message = "a file stays while the child lives"
    wait_until(lambda: host.files_of_ended_processes() == [], 10, message, lambda: (host.files(), parent.tail()))
    end.touch()
    assert parent.wait() == 0, parent.tail()
    report = host.settled()
    assert report["captured"] == 10 == len(host.endpoint.events)


FORKS_IN_C = """
    import ctypes, os, signal, sys
    from tests.faults.app import app, noop
    import sluice_agent

    libc = ctypes.PyDLL(None)       # keeps the GIL, as uWSGI does when it forks
    noop.delay()
    assert sluice_agent.flush(15)
    idle = libc.fork()
    if idle == 0:
        libc.pause()                # like a web process that waits for its first request
    busy = libc.fork()
    if busy == 0:
        for _ in range(3):
            app.send_task(noop.name)
        assert sluice_agent.flush(15)
        sys.exit()                  # with the exit handlers
    assert os.waitstatus_to_exitcode(os.waitpid(busy, 0)[1]) == 0
    noop.delay()
    print(idle, flush=True)
    signal.pause()
"""


def test_children_that_are_forked_in_c(host: Host) -> None:
    """Without it no event of a host under uWSGI is delivered: its children keep the lock, and write into one file.

    The parent ships when it forks. One child lives and does nothing, the other captures, and ends.
    """
    parent = host.start("-c", textwrap.dedent(FORKS_IN_C))
    wait_until(lambda: len(host.endpoint.events) == 5, 30, "an event is missing", parent.tail)
    wait_until(lambda: parent.logs().strip().isdigit(), 30, "the child has not ended well", parent.tail)
    shipper = host.ship()
    wait_until(lambda: host.shipper() == shipper.pid, 10, "it does not ship", shipper.tail)
    host.publish(3)
    assert host.settled()["captured"] == 8 == len(host.endpoint.events)
    wait_until(lambda: host.files_of_ended_processes() == [], 10, "files stay", host.files)
    parent.stop()
    wait_until(lambda: host.files() == [], 10, "files stay", host.files)
    host.end(shipper)
    assert host.endpoint.duplicates == []


FORKS_WHILE_OTHERS_WRITE = """
    import os, threading, time
    from tests.faults.app import app, noop
    from sluice_agent import _public

    from sluice_agent.transport.journal.segment import SegmentWriter

    TEMPLATE = os.environ["TEMPLATE"]
    stopped, write = threading.Event(), SegmentWriter.write

    def write_slowly(self, content, lines=1):  # like a busy disk: the journal's lock is nearly always held
        time.sleep(0.003)
        write(self, content, lines)

    SegmentWriter.write = write_slowly

    def publish():
        while not stopped.is_set():
            app.send_task(noop.name)    # `noop` itself is another app's in a thread

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):
        pid = os.fork()
        if pid == 0:    # not by Celery, whose own pools may not survive the fork
            _public._agent.capture(TEMPLATE.replace("NUMBER", f"child-{number}").encode())
            os._exit(0)
        deadline = time.monotonic() + 20
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.01)
    assert all(thread.is_alive() for thread in threads)
    stopped.set()
    for thread in threads:
        thread.join()
"""


def test_children_that_are_forked_while_threads_capture(host: Host) -> None:
    """Without it one child in a hundred of a web server with threads hangs at its first event."""
    job = {"externalId": "NUMBER", "name": "n", "state": "queued", "extensions": {"eventId": "NUMBER"}}
    envelope = {"timestamp": "2026-01-01T00:00:00Z", "framework": "celery", "connectionId": host.journal.name}
    template = json.dumps({"type": "job_state_change", **envelope, "job": job}, separators=(",", ":"))
    parent = host.start("-c", textwrap.dedent(FORKS_WHILE_OTHERS_WRITE), env={"TEMPLATE": template})
    assert parent.wait(60) == 0, parent.tail()
    host.ship_once()
    host.settled()
    assert len([job for job in host.endpoint.jobs() if job.startswith("child-")]) == 40


SIGNALS_WHILE_IT_STARTS = """
    import os, signal, threading
    from tests.faults.app import noop
    from sluice_agent.transport.delivery.shippers import Shippers
    import sluice_agent

    signal.signal(signal.SIGUSR1, lambda *_: noop.delay())
    make = Shippers.__init__

    def make_between_signals(self, *arguments):
        os.kill(os.getpid(), signal.SIGUSR1)
        make(self, *arguments)
        os.kill(os.getpid(), signal.SIGUSR1)

    Shippers.__init__ = make_between_signals
    noop.delay()
    assert sluice_agent.flush(10)
    sluice_agent.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sluice")]
"""


def test_a_signal_handler_that_publishes_while_the_shipper_starts(host: Host) -> None:
    """Without it a process whose signal handler publishes sometimes hangs for good at its start."""
    process = host.start("-c", textwrap.dedent(SIGNALS_WHILE_IT_STARTS))
    assert process.wait(20) == 0, process.tail()
    assert host.settled()["captured"] == 3


@pytest.mark.parametrize(("method", "pool"), [("fork", "prefork"), ("fork", "solo"), ("spawn", "solo")])
def test_processes_that_a_task_starts(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    host: Host,
    method: str,
    pool: str,
) -> None:
    """Without it jobs that a task publishes from its own `multiprocessing` pool are unknown, or the task hangs.

    In a prefork child `spawn` fails by itself: Celery's billiard has a key there that can't be pickled.
    """
    log_env = {CAPTURE_LOG: host.env[CAPTURE_LOG]}
    worker = start_worker(app="tests.faults.app", env=log_env, concurrency=1, pool=pool)
    sender = producer(env=log_env)
    code = f"from tests.faults.app import fan_out; print(*fan_out.delay({method!r}, 4).get(timeout=60))"
    ids = sender.run(code).split()
    assert len(set(ids)) == 4
    states = ["queued", "active", "completed"]
    wait_until(lambda: all(endpoint.states(job) == states for job in ids), 30, "a job is missing", worker.tail)
    assert worker.terminate().code == 0
    assert assert_balanced(worker.env, endpoint)["pending"] == 0
