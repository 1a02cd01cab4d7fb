"""``make demo``: a local Sluice, a real worker, two hundred jobs with every outcome, and a report on them.

Exits with 0 if every captured event has arrived, otherwise with 1 and the differences.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from examples.demo import report, schedule, server_data, verdict
from examples.demo.processes import DemoError, Process, environment, started, tails, wait_for
from examples.demo.progress import Progress, echo

KEY = "sk_demo"
JOBS_TIMEOUT = 60.0
"""Seconds in which all jobs must have ended: several times what they take."""

SHUTDOWN_TIMEOUT = 20.0
"""Seconds in which the worker must have stopped after SIGTERM, with its last events delivered."""

DELIVERY_TIMEOUT = 10.0
"""Seconds in which a running worker must have delivered all its events, heartbeats too."""

MAX_SHOWN = 20
"""Number of differences that are shown."""

LISTENING = re.compile(r"listening on (http://\S+)")
CONNECTION = re.compile(r"SLUICE_CONNECTION_ID=(\S+)")
SIGN_IN = re.compile(r"sign in at (http://\S+)")
SLUICE_AGENT = Path(sys.executable).with_name("sluice-agent")
APP = ("-A", "examples.demo")
TASKS = "reports.nightly"
"""What the server may call: the jobs of `examples.celery_app.schedules`."""

SERVE = ("serve", "--host", "127.0.0.1", "--port", "0", "--connection", "demo", "--api-key", KEY, *APP)
WORKER = (*APP, "worker", "--concurrency", "4", "--loglevel", "info")

EXAMPLES = (
    ("A job that was retried in vain", "orders.charge_card", "failed", "retrying"),
    ("A job whose process was killed", "images.decode_raw", "failed", "active"),
)

HINT = """Its pages were at {pages}/. To open them, keep it running: make demo ARGS=--keep
It then also prints how to use `sluice-agent status`, `sluice-agent job ID` and the API on this run."""

KEEP_TEXT = """
The pages, live:                      {pages}/
The same, to retry and revoke there:  {link}

Server and worker run until Ctrl-C. In another terminal, in this directory:

export {exports}
.venv/bin/sluice-agent status
.venv/bin/sluice-agent job {job}
.venv/bin/python -m examples.demo.storefront       # two hundred jobs more
curl -H 'Authorization: Bearer sk_demo' '{url}/jobs?state=failed'
"""


@dataclass(frozen=True)
class Demo:
    """The running demo: its processes, their environment, and a client of the server."""

    directory: Path
    env: dict[str, str]
    api: httpx.Client
    server: Process
    worker: Process
    storefront: Process
    nightly: schedule.Nightly

    @property
    def published(self) -> list[verdict.Publication]:
        """The jobs that the storefront has published so far."""
        return verdict.publications(self.storefront.out)


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep server and worker running until Ctrl-C")
    parser.add_argument("--broker", metavar="URL", help="for example amqp://localhost; default: a directory")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="sluice-demo-") as name:
        try:
            return run(Path(name), options.broker, keep=options.keep)
        except DemoError as error:
            echo(f"\n{tails(Path(name))}\n\nThe demo stops: {error}")
            return 1
        except KeyboardInterrupt:
            echo("\nStopped.")
            return 130


def run(directory: Path, broker: str | None, *, keep: bool) -> int:
    """Start the processes, show the progress, print the report, and return the exit code."""
    started_at = time.monotonic()
    with ExitStack() as processes:
        demo = set_up(directory, broker, processes)
        show_progress(demo)
        if not keep:
            demo.worker.stop(SHUTDOWN_TIMEOUT)
        code = evaluate(demo)
        echo(f"\n{time.monotonic() - started_at:.0f} s in all.")
        if not keep:
            echo(HINT.format(pages=pages_of(demo)))
            return code
        try:
            keep_running(demo)
        except KeyboardInterrupt:
            echo("\nStopping.")
        return code


def set_up(directory: Path, broker: str | None, processes: ExitStack) -> Demo:
    """Start the local Sluice, the worker and the producer, which end with ``processes``."""
    env = environment(
        SLUICE_API_KEY=KEY,
        SLUICE_CAPTURE_ARGS="1",  # a job whose arguments are known can be retried
        SLUICE_STATE_DIR=str(directory / "journal"),
        SHOP_FOLDER=str(directory / "shop"),
        **({"BROKER_URL": broker} if broker else {}),
    )

    def start(name: str, *command: str, **variables: str) -> Process:
        return processes.enter_context(started(name, command, env | variables, directory))

    database = str(directory / "sluice.sqlite3")
    command = (str(SLUICE_AGENT), *SERVE, "--jobs-tasks", TASKS, "--database", database)
    server = start("server", *command, SLUICE_ENABLED="0")  # it loads the app to retry jobs, and reports none
    env["SLUICE_API_URL"] = url = found(LISTENING, server)
    env["SLUICE_CONNECTION_ID"] = found(CONNECTION, server)
    echo(f"a local Sluice    {url}")
    worker = start("worker", sys.executable, "-m", "celery", *WORKER)
    echo(f"a worker          celery {' '.join(WORKER)}")
    nightly = schedule.set_up(SLUICE_AGENT, database, env)
    processes.callback(nightly.api.close)
    echo("a schedule        the nightly report, over the jobs API")
    storefront = start("storefront", sys.executable, "-m", "examples.demo.storefront")
    echo("a producer        a process that publishes jobs and is not a worker\n")
    headers = {"Authorization": f"Bearer {KEY}"}
    api = processes.enter_context(httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10))
    return Demo(directory, env, api, server, worker, storefront, nightly)


def found(pattern: re.Pattern[str], server: Process) -> str:
    """Return what the server prints where `pattern` matches."""
    match: re.Match[str] = wait_for("the server to start", lambda: pattern.search(server.output()), server, 20)
    return match[1]


def show_progress(demo: Demo) -> None:
    """Show the progress until the server knows the end of every published or received job, or time is up."""
    deadline = time.monotonic() + JOBS_TIMEOUT
    progress = Progress()
    while True:
        demo.server.check_running()
        demo.worker.check_running()
        is_published = demo.storefront.has_finished()
        published, known = demo.published, server_data.jobs(demo.api)
        unfinished = verdict.unfinished(known)
        progress.show(len(published), len(known), len(known) - len(unfinished))
        if is_published and not unfinished and not verdict.missing(published, demo.worker.log, known):
            break
        if time.monotonic() > deadline:
            break
        time.sleep(0.25)
    progress.end()


def final_counters(demo: Demo) -> server_data.Counters:
    """Return the agent's counters, after a running worker had time to deliver its pending events."""
    deadline = time.monotonic() + DELIVERY_TIMEOUT
    while True:
        counters = server_data.counters(SLUICE_AGENT, demo.env)
        if not counters.pending or demo.worker.exit_code is not None or time.monotonic() > deadline:
            return counters


def evaluate(demo: Demo) -> int:
    """Print the report and the differences; return the exit code."""
    known, counters = server_data.jobs(demo.api), final_counters(demo)
    echo("\n" + report.table(known.values()))
    nightly = demo.nightly.ended(demo.server)
    echo(schedule.line(demo.nightly.schedule(), nightly))
    for title, task, state, past_state in EXAMPLES:
        of_task = (job for job in known.values() if job.name == task and job.state == state)
        details = (server_data.details(demo.api, job) for job in of_task)
        if example := next((job for job in details if report.went_through(job, past_state)), None):
            echo("\n" + report.timeline(title, example))
    echo("\n" + report.invariant(counters))
    problems = verdict.differences(demo.published, demo.worker.log, known, counters)
    if nightly["status"] != "completed":
        problems.append(f"the run {nightly['id']} of the nightly report is {nightly['status']}")
    if demo.worker.exit_code:
        problems.append(f"the worker has not stopped cleanly: exit code {demo.worker.exit_code}")
    if problems:
        rest = [f"… and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
        title = report.paint(f"Differences ({len(problems)}):", "failed")
        echo("\n".join([title, *problems[:MAX_SHOWN], *rest]))
        echo(f"\n{tails(demo.directory)}")
        return 1
    echo(
        report.paint(
            f"All {len(known)} jobs that were published or received have arrived, each with its end.", "completed"
        )
    )
    return 0


def pages_of(demo: Demo) -> str:
    """Return the address of the server's pages."""
    return demo.env["SLUICE_API_URL"].removesuffix("/api")


def keep_running(demo: Demo) -> None:
    """Keep server and worker running until Ctrl-C."""
    ours = ("SLUICE_API_KEY", "SLUICE_CONNECTION_ID", "SLUICE_API_URL", "SLUICE_STATE_DIR", "SHOP_FOLDER", "BROKER_URL")
    exports = " \\\n    ".join(f"{name}={demo.env[name]}" for name in ours if name in demo.env)
    url, job = demo.env["SLUICE_API_URL"], demo.published[0].id
    echo(KEEP_TEXT.format(exports=exports, url=url, job=job, pages=pages_of(demo), link=found(SIGN_IN, demo.server)))
    while True:
        demo.server.check_running()
        demo.worker.check_running()
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
