"""The quick start, as a new user runs it: its code blocks, from an empty folder, with what they promise.

``python -m tests.acceptance.readme`` runs it, with a Redis of its own; exits with 1, and the promise that is not kept.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.support.process import ROOT, Process
from tests.support.servers import RedisServer

FENCE = re.compile(r'^ *```(\w+)(?: title="([^"]+)")?\n(.*?)^ *```', re.MULTILINE | re.DOTALL)
SECONDS = 90.0


class BrokenPromiseError(Exception):
    """A page promises what does not happen."""


def main() -> int:
    """Run the pages; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="sluice-readme-") as name:
        redis = RedisServer(Path(name))
        try:
            walk(Path(name), redis.url(0))
        except BrokenPromiseError as error:
            print(f"The page promises more: {error}")
            return 1
        finally:
            redis.close()
    print("1 passed: each block of the quick start does what it promises")
    return 0


def walk(directory: Path, broker: str) -> None:
    """Do what the quick start says, in its order, in a folder that is empty."""
    folder = directory / "project"
    folder.mkdir()
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    commands = [body.strip() for language, _, body in FENCE.findall(page) if language == "sh"]
    for language, title, body in FENCE.findall(page):
        if language == "python" and title:
            (folder / title).write_text(body.replace("redis://localhost", broker))
    env = environment(directory)
    try_it(folder, env, commands)
    in_a_project(folder, env, commands)
    readme, _, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Add it to your project")
    for command in shell_commands(readme):
        check(command.replace("-A app", "-A shop") in page, f"README.md has another command: {command}")


def try_it(folder: Path, env: dict[str, str], commands: list[str]) -> None:
    """One try, with nothing to set: `sluice-agent run`."""
    check("sluice-agent run -- celery -A shop worker" in commands, "the first command is another one")
    run = start(folder, env, "run", "sluice-agent", "run", "--", "celery", "-A", "shop", "worker", "-c", "2")
    page = found(run, r"the page, until this command ends: (http://\S+)/")
    found(run, "sluice-agent .* is on for")
    check(subprocess.run([*python(), "shop.py"], cwd=folder, env=env, check=False).returncode == 0, "shop.py fails")
    wait_until(lambda: ended(page) == {"completed": 16, "failed": 4}, "sixteen of twenty jobs complete, four fail")
    check(httpx.get(page, trust_env=False, headers={"Accept": "text/html"}).status_code == 200, "there is no page")
    run.send(signal.SIGINT)  # to which a worker alone answers with the code 1
    check(run.wait(60) in (0, 1), f"run ends with {run.exit_code}\n{run.tail()}")
    check("captured" in run.logs() and "the page and its data are gone" in run.logs(), "no summary")


def in_a_project(folder: Path, env: dict[str, str], commands: list[str]) -> None:
    """In your project: the two lines, a server, `.env`, a worker."""
    app = (folder / "shop.py").read_text()
    lines = "import sluice_agent\n\nsluice_agent.install()\n\n\napp = "
    (folder / "shop.py").write_text(app.replace("\napp = ", f"\n{lines}", 1))
    check("sluice-agent serve --write-env .env" in commands, "serve is started in another way")
    serve = start(folder, env, "serve", "sluice-agent", "serve", "--port", "0", "--write-env", ".env")
    url = found(serve, r"export SLUICE_API_URL=(\S+)")
    wait_until((folder / ".env").exists, "serve writes .env")
    shell = "set -a; . ./.env; set +a; exec celery -A shop worker -c 2"
    worker = start(folder, env, "worker", "sh", "-c", shell)
    notice = found(worker, r"(sluice-agent .* is on for .*shipped by this process)")
    check(f"it delivers to {url}/ingest" in notice, "the worker logs another address")
    publish = "set -a; . ./.env; set +a; exec python shop.py"
    check(subprocess.run(["sh", "-c", publish], cwd=folder, env=env, check=False).returncode == 0, "shop.py fails")
    wait_until(lambda: ended(url.removesuffix("/api")) == {"completed": 16, "failed": 4}, "all twenty jobs are there")
    doctor = "set -a; . ./.env; set +a; exec sluice-agent doctor -A shop --send"
    checked = subprocess.run(["sh", "-c", doctor], cwd=folder, env=env, capture_output=True, text=True, check=False)
    check("a marked event has arrived" in checked.stdout and checked.returncode == 0, f"doctor: {checked.stdout}")
    for process in (worker, serve):
        process.send(signal.SIGTERM)
        check(process.wait(60) == 0, f"{process.log.stem} does not end well")


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of a user who has just activated a virtual environment."""
    foreign = ("SLUICE_", "ACKLY_", "CELERY_", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    return {**env, "PATH": path, "PYTHONUNBUFFERED": "1", "HOME": str(directory), "XDG_STATE_HOME": str(directory)}


def start(folder: Path, env: dict[str, str], name: str, *command: str) -> Process:
    """Start a command of the page."""
    return Process(command, folder.parent / f"{name}.log", env, cwd=folder)


def python() -> list[str]:
    """Return the command of the interpreter."""
    return [sys.executable]


def found(process: Process, pattern: str) -> str:
    """Wait until a process prints what `pattern` matches; return its first group, or all of it."""
    wait_until(lambda: re.search(pattern, process.logs()), f"{process.log.stem} prints {pattern}", process.tail)
    match = re.search(pattern, process.logs())
    return match[match.re.groups] if match else ""


def ended(page: str) -> dict[str, int]:
    """Return the numbers of the jobs in the states of an end, of a server's API."""
    counts = {}
    for state in ("completed", "failed"):
        url = f"{page}/api/jobs?state={state}&task=shop.resize&limit=100"
        answer = httpx.get(url, trust_env=False, timeout=30).json()
        counts[state] = len(answer["data"])
    return counts


def shell_commands(text: str) -> list[str]:
    """Return the commands of a document's blocks of the shell, without comments."""
    blocks = [body for language, _, body in FENCE.findall(text) if language == "sh"]
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def wait_until(condition: Callable[[], object], promise: str, details: Callable[[], str] = str) -> None:
    """Wait until a promise is kept."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        check(time.monotonic() < deadline, f"{promise}: not within {SECONDS:g} s\n{details()}")
        time.sleep(0.1)


def check(is_kept: object, promise: str) -> None:
    """Raise if a promise is not kept."""
    if not is_kept:
        raise BrokenPromiseError(promise)


if __name__ == "__main__":
    sys.exit(main())
