"""A disk that is full, out of inodes, read-only or unmounted, and directories that are replaced or removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.disk import Disk
from tests.faults.host import NEVER, Host
from tests.support.accounting import assert_balanced
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import POLL_SECONDS, wait_until
from tests.support.worker import WorkerProcess

SIZE = 3_000_000  # bytes of the disk
TASKS = "from tests.integration.tasks import add\nprint(sum(add.delay(i, 1).get(timeout=30) for i in range({count})))"
NOBODY = 65_534


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """`disk(options)`: mount a small disk with more options."""
    if os.geteuid():
        pytest.skip("only root can mount a disk")
    disks: list[Disk] = []

    def make(options: str = "") -> Disk:
        disks.append(mounted := Disk(tmp_path / "disk", SIZE, options or "nr_inodes=10000"))
        return mounted

    yield make
    for mounted in disks:
        mounted.close()


def state_on(disk: Disk) -> dict[str, str]:
    """Return the setting that puts the journal on the disk."""
    return {"SLUICE_STATE_DIR": str(disk.path)}


@pytest.fixture
def sender(producer: Callable[..., Producer]) -> Producer:
    """A producer without a journal: drops that a process can't write down before its end can't be counted."""
    return producer(agent=False)


@pytest.fixture
def start(start_worker: Callable[..., WorkerProcess], host: Host) -> Callable[[Mapping[str, str]], WorkerProcess]:
    """`start(env)`: start a worker with a capture log, and with one child, so that all its processes have events."""
    log_env = {CAPTURE_LOG: host.env[CAPTURE_LOG], "TEST_SHORT_WAITS": "1"}
    return lambda env: start_worker(app="tests.faults.app", concurrency=1, env={**log_env, **env})


def assert_works(sender: Producer, count: int = 20) -> None:
    """Assert that the worker still runs tasks."""
    assert sender.run(TASKS.format(count=count)) == str(count * (count + 1) // 2)


def wait_until_all_arrives(sender: Producer, endpoint: Endpoint, worker: WorkerProcess) -> None:
    """Wait until all new events of every process of the worker arrive; each may have paused for a second."""

    def all_arrives() -> bool:
        before = set(endpoint.jobs())
        assert_works(sender, 40)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if len(_ended(endpoint) - before) == 40:
                return True
            time.sleep(POLL_SECONDS)
        return False

    wait_until(all_arrives, 30, "not everything arrives again", worker.tail)


def _ended(endpoint: Endpoint) -> set[str]:
    return {job for job, events in endpoint.jobs().items() if events[-1]["job"]["state"] == "completed"}


def test_a_full_disk_costs_events_and_nothing_else(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a full disk stops the tasks, or each event writes a line to the log, which keeps the disk full."""
    small = disk()
    worker = start(state_on(small))
    wait_until_all_arrives(sender, endpoint, worker)
    small.fill()
    assert_works(sender, 60)
    assert 1 <= worker.logs().count("is full: events are dropped and counted") <= 2  # a process logs it once a minute
    small.empty()
    wait_until_all_arrives(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["dropped"].keys() == {"disk"}
    assert report["dropped"]["disk"] >= 100
    assert report["pending"] == 0


ENDS_AT_ONCE = """
    import os
    from pathlib import Path
    from tests.faults.app import noop
    filler = Path(os.environ["SLUICE_STATE_DIR"]) / "filler"
    noop.delay()
    filler.unlink()
"""


def test_a_process_that_ends_as_soon_as_there_is_room_counts_its_drops(
    new_host: Callable[[Mapping[str, str]], Host], disk: Callable[..., Disk]
) -> None:
    """Without it the events that a short script dropped on a full disk are not counted."""
    small = disk()
    host = new_host(state_on(small))
    host.publish(1)
    small.fill()
    process = host.start("-c", textwrap.dedent(ENDS_AT_ONCE), env=NEVER)
    assert process.wait() == 0, process.tail()
    host.ship_once()
    report = host.settled()
    assert (report["delivered"], report["dropped"]) == (1, {"disk": 1})


def test_a_child_that_ends_counts_its_drops(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk], tmp_path: Path
) -> None:
    """Without it the events that a pool's child dropped on a full disk are not counted."""
    small = disk()
    worker = start(state_on(small))
    started, release = tmp_path / "started", tmp_path / "release"
    small.fill()
    sender.send("hold", str(started), str(release))
    wait_until(started.exists, 20, "the task did not start", worker.tail)
    small.empty()
    release.touch()  # within the second before the child's next try
    wait_until(lambda: "succeeded in" in worker.logs(), 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert_balanced(worker.env, endpoint)


def test_a_disk_without_inodes_loses_nothing(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a disk with room for bytes, and without inodes for new files, ends the delivery."""
    small = disk("nr_inodes=60")
    worker = start(state_on(small))
    wait_until_all_arrives(sender, endpoint, worker)
    paths = (small.path / str(number) for number in range(100))
    with pytest.raises(OSError, match="No space"):
        any(path.touch() for path in paths)
    assert_works(sender, 60)
    for number in range(100):
        (small.path / str(number)).unlink(missing_ok=True)
    wait_until_all_arrives(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk"}


def test_a_disk_that_is_mounted_over_and_comes_back_loses_nothing(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a volume that is mounted anew, or read-only for a while, needs a restart of every worker.

    An empty read-only disk is mounted over the one in use: open files can be written, and nothing else.
    """
    small = disk()
    worker = start(state_on(small))
    wait_until_all_arrives(sender, endpoint, worker)
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(small.path)]
    subprocess.run(mount, check=True)
    assert_works(sender, 60)
    wait_until(lambda: "The shipper failed" in worker.logs(), 10, "the shipper has not noticed", worker.tail)
    assert worker.logs().count("The shipper failed") == 1
    subprocess.run(["umount", str(small.path)], check=True)
    wait_until_all_arrives(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk"}


def remove(directory: Path) -> None:
    """Remove the directory while the worker writes."""

    def is_removed() -> bool:
        shutil.rmtree(directory)
        return True

    wait_until(is_removed, message="it is never empty for long enough")


def plant_a_link(directory: Path) -> None:
    """Replace the directory by a link to one that another user can read."""
    remove(directory)
    directory.symlink_to(_elsewhere(directory))


def give_away(directory: Path) -> None:
    """Replace the directory by another user's."""
    remove(directory)
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)


def _elsewhere(directory: Path) -> Path:
    path = directory.parent.with_name("elsewhere")
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize("fault", [remove, plant_a_link, give_away])
def test_a_directory_that_is_removed_while_a_worker_runs(
    endpoint: Endpoint,
    start: Callable[..., WorkerProcess],
    sender: Producer,
    host: Host,
    fault: Callable[[Path], None],
) -> None:
    """Without it a cleaned temporary directory ends the delivery, or another user reads the tasks' arguments."""
    if fault is give_away and os.geteuid():
        pytest.skip("only root can give a directory away")
    worker = start({})
    wait_until_all_arrives(sender, endpoint, worker)
    fault(host.journal)
    assert_works(sender, 60)
    if fault is not remove:
        wait_until(
            lambda: assert_works(sender) or "can't be written" in worker.logs(), 10, "nothing is logged", worker.tail
        )
        assert [*_elsewhere(host.journal).iterdir(), *host.journal.iterdir()] == []
        host.journal.unlink() if host.journal.is_symlink() else host.journal.rmdir()
    wait_until_all_arrives(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk", "folder_removed"}
    assert sum(report["dropped"].values()) > 0
    assert host.journal.stat().st_mode & 0o777 == 0o700


def test_a_directory_of_another_user_switches_the_agent_off(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, host: Host
) -> None:
    """Without it a user who makes the directory first reads the tasks' arguments, and writes events that are sent."""
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    host.journal.mkdir()
    os.chown(host.journal, NOBODY, NOBODY)
    worker = start({})
    assert_works(sender)
    assert worker.terminate().code == 0
    assert f"belongs to user {NOBODY}" in worker.logs()
    assert worker.logs().count("sluice-agent is off") == 1
    assert list(host.journal.iterdir()) == []
    assert endpoint.requests == []


BECOMES_NOBODY = f"""
    import json, os
    from tests.faults.app import noop
    import sluice_agent
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    sluice_agent.install()
    noop.delay()
    print(json.dumps(sluice_agent.stats()))
"""


def test_a_user_without_permission_gets_one_log_line_and_works(host: Host) -> None:
    """Without it a container whose volume is another user's does not start, or drops all events without a log line."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    process = host.start(
        "-c", textwrap.dedent(BECOMES_NOBODY), env={"SLUICE_TEST_INSTALL": "0", "TEST_PRIVILEGES": "1"}
    )
    assert process.wait() == 0, process.tail()
    assert process.logs().count("sluice-agent is off") == 1
    assert "Permission denied" in process.logs()
    assert "SLUICE_STATE_DIR" in process.logs()
    stats = json.loads(process.logs().splitlines()[-1])
    assert (stats["captured"], stats["dropped"]) == (1, {"journal_unavailable": 1})
    assert not host.journal.exists()
