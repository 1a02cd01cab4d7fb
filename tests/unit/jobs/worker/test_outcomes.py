"""Outcomes that wait for the server, each in a file of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_agent.jobs.attempts.records import Outcome
from sluice_agent.jobs.worker.outcomes import Finish, OutcomeFiles
from sluice_agent.jobs.worker.server import InvalidError
from tests.support.process import ROOT


class AwayError(Exception):
    """The server is away."""


class Server:
    """Takes outcomes, unless it is away."""

    def __init__(self) -> None:
        self.taken: list[Finish] = []
        self.is_away = False

    def __call__(self, finish: Finish) -> str | None:
        if self.is_away:
            raise AwayError
        self.taken.append(finish)
        return "completed"


def finish(execution: str = "e1") -> Finish:
    return Finish(run_id="r1", attempt=1, execution=execution, outcome=Outcome(status_code=200, result='{"a": 1}'))


def test_an_outcome_that_is_taken_leaves_no_file(tmp_path: Path) -> None:
    """The directory of a worker would grow with each run."""
    server = Server()
    assert OutcomeFiles(tmp_path).deliver(finish(), server) == "completed"
    assert server.taken == [finish()]
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    """A request that has succeeded would be sent again, or its result be lost."""
    server, files = Server(), OutcomeFiles(tmp_path)
    server.is_away = True
    for execution in ("e1", "e2"):
        with pytest.raises(AwayError):
            files.deliver(finish(execution), server)
    with pytest.raises(AwayError):
        OutcomeFiles(tmp_path).deliver_waiting(server)
    server.is_away = False
    assert OutcomeFiles(tmp_path).deliver_waiting(server) == 2
    assert [taken.execution for taken in server.taken] == ["e1", "e2"]
    assert list(tmp_path.iterdir()) == []


def test_only_its_user_reads_an_outcome(tmp_path: Path) -> None:
    """Other users of the host could read results."""
    server = Server()
    server.is_away = True
    with pytest.raises(AwayError):
        OutcomeFiles(tmp_path).deliver(finish(), server)
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_two_processes_deliver_one_outcome(tmp_path: Path) -> None:
    """The server would get it twice, and the second delivery fail for a run that goes on."""
    server, files = Server(), OutcomeFiles(tmp_path)
    server.is_away = True
    with pytest.raises(AwayError):
        files.deliver(finish(), server)
    server.is_away = False
    [path] = files.waiting()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert files.deliver_waiting(server) == 0
    assert files.deliver_waiting(server) == 1


def test_a_process_that_is_killed_as_it_delivers_leaves_the_outcome(tmp_path: Path) -> None:
    """A request that has succeeded would be sent again, as its worker was killed by the kernel."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sluice_agent.jobs.attempts.records import Outcome\n"
        "from sluice_agent.jobs.worker.outcomes import Finish, OutcomeFiles\n"
        "outcome = Outcome(status_code=200, result='{\"a\": 1}')\n"
        "finish = Finish(run_id='r1', attempt=1, execution='e1', outcome=outcome)\n"
        "OutcomeFiles(Path(sys.argv[1])).deliver(finish, lambda _: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    server = Server()
    assert OutcomeFiles(tmp_path).deliver_waiting(server) == 1
    assert server.taken == [finish()]


def test_an_unreadable_file_stops_no_other(tmp_path: Path) -> None:
    """A file of another version would keep all later outcomes from the server, or be lost."""
    server, files = Server(), OutcomeFiles(tmp_path)
    (tmp_path / "e0.outcome").write_text('{"run_id": 5')
    os.utime(tmp_path / "e0.outcome", (0, 0))
    server.is_away = True
    with pytest.raises(AwayError):
        files.deliver(finish(), server)
    server.is_away = False
    assert files.deliver_waiting(server) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["e0.unreadable"]


def test_an_outcome_that_is_never_taken_stops_no_other(tmp_path: Path) -> None:
    """After an update of the server one outcome of an old worker would keep all later ones from it, for ever."""
    server, files = Server(), OutcomeFiles(tmp_path)
    server.is_away = True
    for execution in ("e1", "e2"):
        with pytest.raises(AwayError):
            files.deliver(finish(execution), server)

    def take(given: Finish) -> str | None:
        if given.execution == "e1":
            raise InvalidError("no such field")
        return "completed"

    assert files.deliver_waiting(take) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["e1.refused"]


def test_an_outcome_that_can_not_be_stored_is_sent(tmp_path: Path) -> None:
    """A full disk would end all runs of a worker."""
    server = Server()
    assert OutcomeFiles(tmp_path / "absent").deliver(finish(), server) == "completed"
    assert server.taken == [finish()]
