"""``make demo``: a local Sluice, a real worker, two hundred jobs with every outcome, and what became of them.

Exits 0 when everything that was captured has arrived, and 1 with the difference when not.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from examples.celery_app import demo_report as report
from examples.celery_app import demo_sluice as sluice
from examples.celery_app import demo_verdict as verdict
from examples.celery_app.demo_processes import DemoError, Process, environment, started, tails, wait_for
from examples.celery_app.demo_progress import Progress, say

KEY = "sk_demo"
PATIENCE = 60.0
"""Seconds in which all jobs must have ended: several times what they take."""

WARM_SHUTDOWN = 20.0
"""Seconds in which the worker must have stopped when it is asked to, its last events delivered."""

DELIVERY = 10.0
"""Seconds in which a running worker must have delivered all it has, heartbeats too."""

MOST_SHOWN = 20
"""Differences that are shown one by one."""

LISTENING = re.compile(r"listening on (http://\S+)")
SLUICE_AGENT = Path(sys.executable).with_name("sluice-agent")
WORKER = ("-A", "examples.celery_app", "worker", "--concurrency", "4", "--loglevel", "info")

EXAMPLES = (
    ("A job that was retried in vain", "orders.charge_card", "failed", "retrying"),
    ("A job whose process was killed", "images.decode_raw", "failed", "active"),
)

FURTHER = """To look further, leave it running: make demo ARGS=--keep
It then says how to use, on this very run, `sluice-agent status`, `sluice-agent job ID` and the API."""

STAY = """
Server and worker stay up until Ctrl-C. In another terminal, in this folder:

export {exports}
.venv/bin/sluice-agent status
.venv/bin/sluice-agent job {job}
.venv/bin/python -m examples.celery_app.storefront       # two hundred jobs more
curl -H 'Authorization: Bearer sk_demo' '{url}/jobs?state=failed'
"""


@dataclass(frozen=True)
class Stage:
    """All that is up while the demo runs."""

    directory: Path
    env: dict[str, str]
    api: httpx.Client
    server: Process
    worker: Process
    storefront: Process

    @property
    def published(self) -> list[verdict.Order]:
        """What the storefront has published so far."""
        return verdict.orders(self.storefront.out)


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave server and worker up until Ctrl-C")
    parser.add_argument("--broker", metavar="URL", help="for example amqp://localhost; default: a folder")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="sluice-demo-") as name:
        try:
            return run(Path(name), options.broker, keep=options.keep)
        except DemoError as error:
            say(f"\n{tails(Path(name))}\n\nThe demo stops: {error}")
            return 1
        except KeyboardInterrupt:
            say("\nStopped.")
            return 130


def run(directory: Path, broker: str | None, *, keep: bool) -> int:
    """Everything from the first process to the verdict."""
    began = time.monotonic()
    with ExitStack() as processes:
        stage = set_up(directory, broker, processes)
        watch(stage)
        if not keep:
            stage.worker.stop(WARM_SHUTDOWN)
        code = judge(stage)
        say(f"\n{time.monotonic() - began:.0f} s in all.")
        if not keep:
            say(FURTHER)
            return code
        try:
            stay(stage)
        except KeyboardInterrupt:
            say("\nStopping.")
        return code


def set_up(directory: Path, broker: str | None, processes: ExitStack) -> Stage:
    """Start the local Sluice, the worker and the producer; they end with ``processes``."""
    env = environment(
        SLUICE_API_KEY=KEY,
        SLUICE_CONNECTION_ID=str(uuid.uuid4()),
        SLUICE_STATE_DIR=str(directory / "journal"),
        SHOP_FOLDER=str(directory / "shop"),
        **({"BROKER_URL": broker} if broker else {}),
    )

    def start(name: str, *command: str) -> Process:
        return processes.enter_context(started(name, command, env, directory))

    database = str(directory / "sluice.sqlite3")
    server = start("server", str(SLUICE_AGENT), "serve", "--host", "127.0.0.1", "--port", "0", "--database", database)
    url = wait_for("the server to listen", lambda: LISTENING.search(server.words()), server, 20)[1]
    say(f"a local Sluice    {url}")
    env["SLUICE_API_URL"] = url
    worker = start("worker", sys.executable, "-m", "celery", *WORKER)
    say(f"a worker          celery {' '.join(WORKER)}")
    storefront = start("storefront", sys.executable, "-m", "examples.celery_app.storefront")
    say("a producer        a process that publishes jobs and is no worker\n")
    headers = {"Authorization": f"Bearer {KEY}"}
    api = processes.enter_context(httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10))
    return Stage(directory, env, api, server, worker, storefront)


def watch(stage: Stage) -> None:
    """Show how it goes until the server knows the end of every job that was published or received, or time is up."""
    deadline = time.monotonic() + PATIENCE
    progress = Progress()
    while True:
        stage.server.must_run()
        stage.worker.must_run()
        front_has_closed = stage.storefront.has_done_its_work()
        published, known = stage.published, sluice.jobs(stage.api)
        unfinished = verdict.unfinished(known)
        progress.show(len(published), len(known), len(known) - len(unfinished))
        if front_has_closed and not unfinished and not verdict.missing(published, stage.worker.log, known):
            break
        if time.monotonic() > deadline:
            break
        time.sleep(0.25)
    progress.end()


def settled(stage: Stage) -> sluice.Counters:
    """The agent's counters, with nothing pending if a worker that still runs gets that far."""
    deadline = time.monotonic() + DELIVERY
    while True:
        counters = sluice.counters(SLUICE_AGENT, stage.env)
        if not counters.pending or stage.worker.exit_code is not None or time.monotonic() > deadline:
            return counters


def judge(stage: Stage) -> int:
    """Print what became of the jobs and whether all is told; the exit code."""
    known, counters = sluice.jobs(stage.api), settled(stage)
    say("\n" + report.table(known.values()))
    for title, task, state, passed in EXAMPLES:
        of_task = (job for job in known.values() if job.name == task and job.state == state)
        details = (sluice.details(stage.api, job) for job in of_task)
        if example := next((job for job in details if report.went_through(job, passed)), None):
            say("\n" + report.timeline(title, example))
    say("\n" + report.invariant(counters))
    wrong = verdict.differences(stage.published, stage.worker.log, known, counters)
    if stage.worker.exit_code:
        wrong.append(f"the worker has not stopped as it should: exit code {stage.worker.exit_code}")
    if wrong:
        more = [f"… and {len(wrong) - MOST_SHOWN} more"] if len(wrong) > MOST_SHOWN else []
        title = report.paint(f"Not as it should be ({len(wrong)}):", "failed")
        say("\n".join([title, *wrong[:MOST_SHOWN], *more]))
        say(f"\n{tails(stage.directory)}")
        return 1
    say(
        report.paint(
            f"All {len(known)} jobs that were published or received have arrived, each with its end.", "completed"
        )
    )
    return 0


def stay(stage: Stage) -> None:
    """Leave server and worker up until Ctrl-C."""
    ours = ("SLUICE_API_KEY", "SLUICE_CONNECTION_ID", "SLUICE_API_URL", "SLUICE_STATE_DIR", "SHOP_FOLDER", "BROKER_URL")
    exports = " \\\n    ".join(f"{name}={stage.env[name]}" for name in ours if name in stage.env)
    say(STAY.format(exports=exports, url=stage.env["SLUICE_API_URL"], job=stage.published[0].id))
    while True:
        stage.server.must_run()
        stage.worker.must_run()
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
