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
from sluice_agent.jobs.worker.server import RefusedError, ServerAwayError
from tests.support.process import ROOT


class Server:
    """Takes outcomes, unless it is away."""

    def __init__(self) -> None:
        self.taken: list[Finish] = []
        self.is_away = False

    def __call__(self, finish: Finish) -> str | None:
        if self.is_away:
            raise ServerAwayError("it answers 503")
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
        with pytest.raises(ServerAwayError):
            files.deliver(finish(execution), server)
    assert OutcomeFiles(tmp_path).deliver_waiting(server) == 0
    server.is_away = False
    assert OutcomeFiles(tmp_path).deliver_waiting(server) == 2
    assert [taken.execution for taken in server.taken] == ["e1", "e2"]
    assert list(tmp_path.iterdir()) == []


def test_only_its_user_reads_an_outcome(tmp_path: Path) -> None:
    """Other users of the host could read results."""
    server = Server()
    server.is_away = True
    with pytest.raises(ServerAwayError):
        OutcomeFiles(tmp_path).deliver(finish(), server)
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_two_processes_deliver_one_outcome(tmp_path: Path) -> None:
    """The server would get it twice, and the second delivery fail for a run that goes on."""
    server, files = Server(), OutcomeFiles(tmp_path)
    server.is_away = True
    with pytest.raises(ServerAwayError):
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
    """A file of another version would keep all later outcomes from the server, or its request be sent again."""
    server, files = Server(), OutcomeFiles(tmp_path)
    for name, content in (("e0", '{"run_id": 5'), ("e1", '{"run_id":"r1","attempt":1}')):
        (tmp_path / f"{name}.outcome").write_text(content)
    (tmp_path / "e2.outcome").write_text(finish("e2").model_dump_json())
    assert files.deliver_waiting(server) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e0.unreadable", "e1.outcome"]
    assert files.executions() == {"e1": "r1"}, "it is reported as under way"


@pytest.mark.parametrize("error", [RefusedError("400"), ServerAwayError("502")])
def test_an_outcome_that_is_never_taken_stops_no_other(tmp_path: Path, error: Exception) -> None:
    """Outcomes that a proxy blocks would keep all later ones from the server, for ever; or be taken for lost, so that
    their requests are sent again; or stay for ever."""
    server, files = Server(), OutcomeFiles(tmp_path)
    for number in range(1, 5):
        path = tmp_path / f"e{number}.outcome"
        path.write_text(finish(path.stem).model_dump_json())
        os.utime(path, (number, number))
    tried: list[str] = []

    def take(given: Finish) -> str | None:
        tried.append(given.execution)
        if given.execution != "e4":
            raise error
        return server(given)

    for _ in range(2):
        with pytest.raises(type(error)):
            files.deliver_waiting(take)
    assert tried == ["e1", "e2", "e3", "e4", "e1", "e2", "e3"]
    assert server.taken == [finish("e4")]
    assert files.executions() == {"e1": "r1", "e2": "r1", "e3": "r1"}, "they are reported as under way"
    with pytest.raises(type(error)):
        files.deliver_waiting(take, unwanted={"e1", "e2", "e4"})
    assert files.executions() == {"e3": "r1"}


def test_one_process_reports_what_waits(tmp_path: Path) -> None:
    """Each process of a pool would report all outcomes that wait, or none would, and their requests be sent again."""
    (tmp_path / "e1.outcome").write_text(finish().model_dump_json())
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from sluice_agent.jobs.worker.outcomes import OutcomeFiles\n"
        "files = OutcomeFiles(Path(sys.argv[1]))\n"
        "assert files.executions()\n"
        "asked, answer = os.pipe()\n"
        "over, end = os.pipe()\n"
        "if os.fork():\n"
        "    os.read(asked, 1)\n"
        "    assert files.executions(), 'the child has taken the lock away'\n"
        "    os._exit(0)\n"
        "os.close(end)\n"
        "print('beside its parent', files.executions())\n"
        "os.write(answer, b'.')\n"
        "os.read(over, 1)\n"
        "while not files.executions():\n"
        "    time.sleep(0.01)\n"
        "print('after it', files.executions())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "beside its parent {}\nafter it {'e1': 'r1'}\n", run.stderr


def test_an_outcome_that_can_not_be_stored_is_sent(tmp_path: Path) -> None:
    """A full disk would end all runs of a worker."""
    server = Server()
    assert OutcomeFiles(tmp_path / "absent").deliver(finish(), server) == "completed"
    assert server.taken == [finish()]
