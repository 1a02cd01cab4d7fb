"""README and quick start as a new user runs them: all their code blocks, from an empty folder, with what they promise.

``python -m tests.acceptance.readme`` builds the wheel, makes an empty venv, and runs each block as it is written, with
a Redis of its own. It exits with 1, and the promise that is not kept. A block that nothing runs is one.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import httpx
import psutil

from tests.integration import test_first_celery_job
from tests.support.process import ROOT, Process, free_port
from tests.support.servers import RedisServer

README = ROOT / "README.md"
QUICK_START = ROOT / "docs" / "quick-start.md"
FENCE = re.compile(r'^ *```\w*(?: title="[^"]+")?\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
BROKER = "redis://localhost"
SECONDS = 120.0
JOBS = {"completed": 16, "failed": 4}
"""How the jobs end that the app of the quick start publishes."""


class BrokenPromiseError(Exception):
    """A page promises what does not happen."""


@dataclass
class Page:
    """A document, and those of its blocks that nothing has run."""

    path: Path
    left: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.left = [dedent(body) for body in FENCE.findall(self.path.read_text(encoding="utf-8"))]

    def block(self, part: str) -> str:
        """Take the block that has this part: whoever takes it runs it."""
        found = [block for block in self.left if part in block]
        check(len(found) == 1, f"{self.path.name} has {len(found)} blocks with {part!r}, and not one")
        self.left.remove(found[0])
        return found[0]


@dataclass
class User:
    """A folder, and a shell in which the commands of a new virtual environment are found."""

    directory: Path
    broker: str
    env: dict[str, str]

    def folder(self, name: str, files: dict[str, str] | None = None) -> Path:
        """Make a folder with these files, whose broker is the one that is here."""
        path = self.directory / name
        path.mkdir()
        for title, text in (files or {}).items():
            named = text.replace(
                'Celery("shop"', f'Celery("{Path(title).stem}"'
            )  # by which it names its tasks as a script
            (path / title).write_text(named.replace(BROKER, self.broker))
        return path

    def start(self, folder: Path, block: str) -> Process:
        """Start a block of the shell."""
        number = len([*self.directory.glob("*.log")])
        return Process(["sh", "-ec", block], self.directory / f"{number:02}.log", self.env, folder)

    def run(self, folder: Path, block: str) -> str:
        """Run a block of the shell to its end; return what it prints."""
        process = self.start(folder, block)
        check(process.wait(600) == 0, f"{block} fails\n{process.tail()}")
        return process.logs()


def main() -> int:
    """Run the pages; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="sluice-readme-") as name:
        redis = RedisServer(Path(name) / "redis")
        try:
            walk(User(Path(name), redis.url(0), environment(Path(name))))
        except BrokenPromiseError as error:
            print(f"The page promises more: {error}")
            return 1
        finally:
            redis.close()
    print("1 passed: each block of README and quick start does what it promises")
    return 0


def walk(user: User) -> None:
    """Do what the pages say."""
    readme, quick_start = Page(README), Page(QUICK_START)
    app = quick_start.block("@app.task")
    empty = user.folder("empty")
    user.run(empty, quick_start.block("pip install"))
    one_try(user, user.folder("try", {"shop.py": app}), quick_start.block("sluice-agent run"), "shop")
    project = user.folder("project", {"app.py": app})
    install(project / "app.py", quick_start.block("sluice_agent.install()"))
    with served(user, project, quick_start.block("sluice-agent serve")) as url:
        in_a_project(user, project, quick_start, url)
        add_it(user, user.folder("readme", {"app.py": app}), readme, url)
        from_outside(user, user.folder("sidecar", {"app.py": app}), readme, url)
    one_try(user, user.folder("first", {"app.py": app}), readme.block("sluice-agent run"), "app")
    for block in test_first_celery_job.blocks_of(README):
        readme.block(block)
    for page in (readme, quick_start):
        check(not page.left, f"nothing runs this block of {page.path.name}:\n{''.join(page.left)}")


def one_try(user: User, folder: Path, block: str, app: str) -> None:
    """One try, with nothing to set: `sluice-agent run`."""
    run = user.start(folder, block)
    page = found(run, r"the page, until this command ends: (http://\S+)/")
    found(run, "sluice-agent .* is on for")
    user.run(folder, f"python {app}.py")
    wait_until(lambda: ended(page, app) == JOBS, "sixteen of twenty jobs complete, four fail", run.tail)
    check(httpx.get(page, trust_env=False, headers={"Accept": "text/html"}).status_code == 200, "there is no page")
    stop(run, signal.SIGINT, codes=(0, 1))  # a worker alone answers to it with 1
    check("captured" in run.logs() and "the page and its data are gone" in run.logs(), "no summary")
    check(not [*Path(user.env["TMPDIR"]).glob("sluice-*")], "the data of the try is still there")


@contextmanager
def served(user: User, folder: Path, block: str) -> Iterator[str]:
    """Run the server of the quick start in its project, on a port that is free."""
    serve = user.start(folder, block.replace("sluice-agent serve", f"sluice-agent serve --port {free_port()}"))
    url = found(serve, r"export SLUICE_API_URL=(\S+)")
    wait_until((folder / ".env").exists, "serve writes .env", serve.tail)
    yield url
    stop(serve, signal.SIGTERM)


def in_a_project(user: User, folder: Path, page: Page, url: str) -> None:
    """In your project: the two lines, `.env`, a worker, which logs what the page shows, and the doctor."""
    block = page.block("celery -A app worker")
    worker = user.start(folder, block)
    found(worker, pattern_of(page.block("is on for"), url))
    with_env, _, _ = block.partition("\n")
    user.run(folder, f"{with_env}\npython app.py")
    wait_until(lambda: ended(url.removesuffix("/api")) == JOBS, "all twenty jobs are there", worker.tail)
    doctor = "sluice-agent doctor -A app --send"
    check(f"`{doctor}`" in page.path.read_text(encoding="utf-8"), f"{page.path.name} names another doctor")
    check(
        "a marked event has arrived" in user.run(folder, f"{with_env}\n{doctor}"), "the doctor's event has not arrived"
    )
    stop(worker, signal.SIGTERM)


def add_it(user: User, folder: Path, page: Page, url: str) -> None:
    """Add it to your project: its lines, and the variables, with the values that `serve` has printed."""
    install(folder / "app.py", page.block("import sluice_agent\n"))
    values = dict(line.split("=", 1) for line in (folder.parent / "project" / ".env").read_text().splitlines())
    block = re.sub(
        r"(SLUICE_\w+)=\S*…", lambda match: f"{match[1]}={values[match[1]]}", page.block("export SLUICE_API_KEY")
    )
    check("…" not in block, f"what is the value of this?\n{block}")
    block += f"export SLUICE_API_URL={values['SLUICE_API_URL']}\n"
    worker = user.start(folder, f"{block}celery -A app worker")
    check(f"it delivers to {url}/ingest" in found(worker, "(sluice-agent .* is on for .*)"), "it delivers elsewhere")
    user.run(folder, f"{block}python app.py")
    wait_until(lambda: ended(url.removesuffix("/api")) == times(2), "all twenty jobs are there", worker.tail)
    stop(worker, signal.SIGTERM)


def from_outside(user: User, folder: Path, page: Page, url: str) -> None:
    """Workers that can't be changed are reported from outside."""
    env = f"set -a; . {shlex.quote(str(folder.parent / 'project' / '.env'))}; set +a\n"
    sidecar = user.start(folder, env + page.block("celery -A app sluice"))
    worker = user.start(folder, "celery -A app worker")
    found(sidecar, "(Enabled task events on 1 workers)")  # what ends before that is not seen from outside
    user.run(folder, "python app.py")
    wait_until(lambda: ended(url.removesuffix("/api")) == times(3), "all twenty jobs are there", sidecar.tail)
    stop(worker, signal.SIGTERM)
    stop(sidecar, signal.SIGTERM)


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of a user who has just activated a new virtual environment; pip finds the wheel there."""
    subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (directory / "tmp").mkdir()
    foreign = ("SLUICE_", "ACKLY_", "CELERY_", "PYTHON", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **env,
        "HOME": str(directory),
        "PATH": f"{directory / 'venv' / 'bin'}{os.pathsep}{env['PATH']}",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": f"{directory / 'dist'} {env.get('PIP_FIND_LINKS', '')}",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(directory / "tmp"),
        "XDG_STATE_HOME": str(directory),
    }


def install(app: Path, block: str) -> None:
    """Put the lines that install the agent after the import of Celery."""
    text = app.read_text()
    after = "from celery import Celery\n"
    check(after in text, "the app imports Celery in another way")
    app.write_text(text.replace(after, f"{after}{block}", 1))


def pattern_of(text: str, url: str) -> str:
    """Return a pattern of the worker's line on a page, where version, host and directory are others."""
    text = text.replace("http://127.0.0.1:8787/api", url)
    for example in (r"\d+\.\d+\.\d+", r"celery@\w+", r"/\S+…"):
        check(re.search(example, text), f"the line has no {example}:\n{text}")
        text = re.sub(f"(?<=\\s){example}", "EXAMPLE", text)
    return r"\s+".join(map(re.escape, text.split())).replace("EXAMPLE", r"\S+")


def times(number: int) -> dict[str, int]:
    """Return how the jobs of several publications end."""
    return {state: number * count for state, count in JOBS.items()}


def stop(process: Process, number: int, codes: tuple[int, ...] = (0,)) -> None:
    """Send a signal to the command of a block, as Ctrl-C and a supervisor do; check how it ends."""
    tree = [psutil.Process(process.pid), *process.children()]
    command = next(each for each in tree if each.name() not in {"sh", "bash", "dash"})
    command.send_signal(number)
    check(process.wait(60) in codes, f"it ends with {process.exit_code}\n{process.tail()}")


def found(process: Process, pattern: str) -> str:
    """Wait until a process prints what `pattern` matches; return its first group, or all of it."""
    wait_until(lambda: re.search(pattern, process.logs()), f"{process.command[-1]} prints {pattern}", process.tail)
    match = re.search(pattern, process.logs())
    return match[match.re.groups and 1] if match else ""


def ended(page: str, app: str = "app") -> dict[str, int]:
    """Return the numbers of an app's jobs in the states of an end, of a server's API."""
    counts = {}
    for state in JOBS:
        url = f"{page}/api/jobs?state={state}&limit=100"
        jobs = httpx.get(url, trust_env=False, timeout=30).json()["data"]
        counts[state] = sum(job["name"] == f"{app}.resize" for job in jobs)
    return counts


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
