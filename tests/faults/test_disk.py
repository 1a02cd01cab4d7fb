"""A disk that is full, out of inodes, read-only or gone, and folders that are not what they should be."""

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


class Disk:
    """A small disk of its own, in memory."""

    def __init__(self, place: Path, options: str) -> None:
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700,{options}", "tmpfs", str(place))

    def fill(self) -> None:
        """Leave no byte."""
        with (self.place / "filler").open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break

    def empty(self) -> None:
        """Give the room back."""
        (self.place / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """`disk(options)`: a small disk with more mount options."""
    if os.geteuid():
        pytest.skip("only root can mount a disk")
    disks: list[Disk] = []

    def make(options: str = "") -> Disk:
        disks.append(made := Disk(tmp_path / "disk", options or "nr_inodes=10000"))
        return made

    yield make
    for each in disks:
        each.close()


def on(disk: Disk) -> dict[str, str]:
    """The setting that puts the journal there."""
    return {"SLUICE_STATE_DIR": str(disk.place)}


@pytest.fixture
def sender(producer: Callable[..., Producer]) -> Producer:
    """Whoever sends the tasks writes no journal: what a process can't write down by its end, nobody can count."""
    return producer(agent=False)


@pytest.fixture
def start(start_worker: Callable[..., WorkerProcess], host: Host) -> Callable[[Mapping[str, str]], WorkerProcess]:
    """`start(env)`: a worker with a witness, and with one child, so that every process of it has something to tell."""
    noting = {CAPTURE_LOG: host.env[CAPTURE_LOG], "TEST_SHORT_WAITS": "1"}
    return lambda env: start_worker(app="tests.faults.app", concurrency=1, env={**noting, **env})


def works(sender: Producer, count: int = 20) -> None:
    """The worker goes on with its tasks."""
    assert sender.run(TASKS.format(count=count)) == str(count * (count + 1) // 2)


def is_told_again(sender: Producer, endpoint: Endpoint, worker: WorkerProcess) -> None:
    """What happens from now on arrives: of every process of the worker, which may have paused for a second."""

    def all_is_told() -> bool:
        before = set(endpoint.jobs())
        works(sender, 40)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if len(_ended(endpoint) - before) == 40:
                return True
            time.sleep(POLL_SECONDS)
        return False

    wait_until(all_is_told, 30, "not everything arrives again", worker.tail)


def _ended(endpoint: Endpoint) -> set[str]:
    return {job for job, events in endpoint.jobs().items() if events[-1]["job"]["state"] == "completed"}


def test_a_full_disk_costs_events_and_nothing_else(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a full disk stops the tasks, or each event writes a line to the log, which keeps the disk full."""
    small = disk()
    worker = start(on(small))
    is_told_again(sender, endpoint, worker)
    small.fill()
    works(sender, 60)
    assert 1 <= worker.logs().count("is full: events are dropped and counted") <= 2  # a process says it once a minute
    small.empty()
    is_told_again(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["dropped"].keys() == {"disk"}
    assert report["dropped"]["disk"] >= 100
    assert report["pending"] == 0


ENDS_SOON = """
    import os
    from pathlib import Path
    from tests.faults.app import noop
    filler = Path(os.environ["SLUICE_STATE_DIR"]) / "filler"
    noop.delay()
    filler.unlink()
"""


def test_a_process_that_ends_as_soon_as_there_is_room_counts_what_it_lost(
    new_host: Callable[[Mapping[str, str]], Host], disk: Callable[..., Disk]
) -> None:
    """Without it what a short script lost on a full disk is in nobody's accounts."""
    small = disk()
    host = new_host(on(small))
    host.publish(1)
    small.fill()
    process = host.start("-c", textwrap.dedent(ENDS_SOON), env=NEVER)
    assert process.wait() == 0, process.tail()
    host.ship_once()
    report = host.settled()
    assert (report["delivered"], report["dropped"]) == (1, {"disk": 1})


def test_a_child_that_ends_counts_what_it_lost(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk], tmp_path: Path
) -> None:
    """Without it what a pool's child lost on a full disk is in nobody's accounts."""
    small = disk()
    worker = start(on(small))
    started, release = tmp_path / "started", tmp_path / "release"
    small.fill()
    sender.send("hold", str(started), str(release))
    wait_until(started.exists, 20, "the task did not start", worker.tail)
    small.empty()
    release.touch()  # within the second in which the child does not try again
    wait_until(lambda: "succeeded in" in worker.logs(), 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert_balanced(worker.env, endpoint)


def test_a_disk_without_inodes_loses_nothing(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a disk that has room for bytes, and none for another name, ends the delivery."""
    small = disk("nr_inodes=60")
    worker = start(on(small))
    is_told_again(sender, endpoint, worker)
    names = (small.place / str(number) for number in range(100))
    with pytest.raises(OSError, match="No space"):
        any(name.touch() for name in names)
    works(sender, 60)
    for number in range(100):
        (small.place / str(number)).unlink(missing_ok=True)
    is_told_again(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk"}


def test_a_disk_that_goes_and_comes_back_loses_nothing(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, disk: Callable[..., Disk]
) -> None:
    """Without it a volume that is mounted anew, or read-only for a while, needs a restart of every worker.

    An empty read-only disk is mounted over the one that is in use: what is open can be written, nothing else can.
    """
    small = disk()
    worker = start(on(small))
    is_told_again(sender, endpoint, worker)
    over = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(small.place)]
    subprocess.run(over, check=True)
    works(sender, 60)
    wait_until(lambda: "The shipper failed" in worker.logs(), 10, "the shipper has not noticed", worker.tail)
    assert worker.logs().count("The shipper failed") == 1
    subprocess.run(["umount", str(small.place)], check=True)
    is_told_again(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env, endpoint)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk"}


def remove(directory: Path) -> None:
    """Somebody cleans up, while the worker writes."""

    def is_gone() -> bool:
        shutil.rmtree(directory)
        return True

    wait_until(is_gone, message="it is never empty for long enough")


def plant_a_link(directory: Path) -> None:
    """Somebody cleans up, and somebody else puts a link there, to a folder that they can read."""
    remove(directory)
    directory.symlink_to(_elsewhere(directory))


def give_away(directory: Path) -> None:
    """The folder becomes another user's."""
    remove(directory)
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)


def _elsewhere(directory: Path) -> Path:
    place = directory.parent.with_name("elsewhere")
    place.mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize("fault", [remove, plant_a_link, give_away])
def test_a_folder_that_is_taken_away_while_a_worker_runs(
    endpoint: Endpoint,
    start: Callable[..., WorkerProcess],
    sender: Producer,
    host: Host,
    fault: Callable[[Path], None],
) -> None:
    """Without it a tidy temporary folder ends the delivery, or somebody else reads what the tasks were given."""
    if fault is give_away and os.geteuid():
        pytest.skip("only root can give a folder away")
    worker = start({})
    is_told_again(sender, endpoint, worker)
    fault(host.journal)
    works(sender, 60)
    if fault is not remove:
        wait_until(lambda: works(sender) or "can't be written" in worker.logs(), 10, "nothing is said", worker.tail)
        assert [*_elsewhere(host.journal).iterdir(), *host.journal.iterdir()] == []
        host.journal.unlink() if host.journal.is_symlink() else host.journal.rmdir()
    is_told_again(sender, endpoint, worker)
    assert worker.terminate().code == 0
    report = assert_balanced(worker.env)
    assert report["pending"] == 0
    assert report["dropped"].keys() <= {"disk", "folder_removed"}
    assert sum(report["dropped"].values()) > 0
    assert host.journal.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_switches_the_agent_off(
    endpoint: Endpoint, start: Callable[..., WorkerProcess], sender: Producer, host: Host
) -> None:
    """Without it whoever makes the folder first reads what the tasks were given, and writes what is sent."""
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    host.journal.mkdir()
    os.chown(host.journal, NOBODY, NOBODY)
    worker = start({})
    works(sender)
    assert worker.terminate().code == 0
    assert f"belongs to user {NOBODY}" in worker.logs()
    assert worker.logs().count("sluice-agent is off") == 1
    assert list(host.journal.iterdir()) == []
    assert endpoint.requests == []


IS_NOBODY = f"""
    import json, os
    from tests.faults.app import noop
    import sluice_agent
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    sluice_agent.install()
    noop.delay()
    print(json.dumps(sluice_agent.stats()))
"""


def test_a_user_without_permission_is_told_once_and_works(host: Host) -> None:
    """Without it a container whose volume is another user's does not start, or loses everything and says nothing."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    process = host.start("-c", textwrap.dedent(IS_NOBODY), env={"SLUICE_TEST_INSTALL": "0", "TEST_PRIVILEGES": "1"})
    assert process.wait() == 0, process.tail()
    assert process.logs().count("sluice-agent is off") == 1
    assert "Permission denied" in process.logs()
    assert "SLUICE_STATE_DIR" in process.logs()
    found = json.loads(process.logs().splitlines()[-1])
    assert (found["captured"], found["dropped"]) == (1, {"journal_unavailable": 1})
    assert not host.journal.exists()
