"""A command that runs in a fork does what it would do in a new process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT
from tests.support.python_forks import can_fork, run_fork
from tests.support.waiting import wait_until

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
SEES = """
import os, sys
own = [name for name in sys.modules if name.split(".")[0] in ("sluice_agent", "tests")]
print(sys.argv, os.environ["GIVEN"], "celery" in sys.modules, os.getsid(0) == os.getpid(), os.getcwd(), __name__)
print(len(os.listdir("/proc/self/fd")), own, file=sys.stderr)
"""


def fork(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run ``python arguments`` in a fork; return its exit code, output and errors."""
    command = [sys.executable, *arguments]
    assert can_fork(command, {**ENV, **variables})
    ended = run_fork(command, {**ENV, **variables}, 60)
    return ended.returncode, ended.stdout, ended.stderr


def test_it_has_arguments_an_environment_and_a_session_of_its_own() -> None:
    """A producer would otherwise have the settings of another, or run code of ours that is older."""
    code, output, errors = fork("-c", SEES, "argument", GIVEN="given")
    assert (code, output) == (0, f"['-c', 'argument'] given True True {ROOT} __main__\n"), errors
    assert errors == "4 ['tests', 'tests.support']\n", "three files, and the directory that is listed"


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["-c", "import atexit; atexit.register(print, 'at the end')"], 0, "at the end\n"),
        (
            ["-c", "import threading, time; threading.Timer(0.1, print, ['from a thread']).start()"],
            0,
            "from a thread\n",
        ),
        (["-c", "raise SystemExit(3)"], 3, ""),
        (["-c", "1 / 0"], 1, ""),
        (["-c", "import os; os.kill(os.getpid(), 15)"], -15, ""),
        (["-m", "json.tool", "--help"], 0, "usage: "),
        (["-m", "no.such.module"], 1, ""),
    ],
    ids=["atexit", "thread", "exit", "exception", "signal", "module", "no module"],
)
def test_it_ends_as_a_process_does(arguments: list[str], code: int, output: str) -> None:
    """What the agent does at the end of a process would not be tested, nor a command's exit code."""
    result = fork(*arguments)
    assert result[0] == code, result
    assert result[1].startswith(output), result


def test_its_zone_is_that_of_its_environment() -> None:
    """Tests of other zones would otherwise run in that of the machine."""
    assert fork("-c", "import time; print(time.tzname[0])", TZ="Asia/Tokyo")[1] == "JST\n"


def test_a_process_that_runs_too_long_is_killed() -> None:
    """A test run would otherwise leave it."""
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(TimeoutError) as raised:
        run_fork([sys.executable, "-c", code], ENV, 0.01)
    process = int(str(raised.value).split()[1])
    wait_until(lambda: not Path(f"/proc/{process}").exists(), message="it is still there")


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (["sleep", "1"], {}),
        ([sys.executable, "-V"], {}),
        ([sys.executable, "-c", ""], {"PYTHONPATH": "/elsewhere"}),
        ([sys.executable, "-c", ""], {"PYTHONHASHSEED": "1"}),
        ([sys.executable, "-c", ""], {"LD_PRELOAD": "/x.so"}),
        ([sys.executable, "-c", ""], {"TEST_CLOCK": "/x"}),
    ],
    ids=["other program", "option", "path", "hash seed", "preload", "clock"],
)
def test_what_only_a_new_process_can_do_is_not_forked(command: list[str], variables: dict[str, str]) -> None:
    """A fork would ignore what an interpreter reads at its start."""
    assert not can_fork(command, {**ENV, **variables})
