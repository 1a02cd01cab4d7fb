"""examples/django_app on the oldest and a new Django: requests, commands, beat and results of a real project.

`make packages` also runs it on the newest, which needs a newer Python than the tests have.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

import sluice_agent
from tests.support.endpoint import Endpoint
from tests.support.process import ROOT, Process, free_port, listens
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

PROJECT = ROOT / "examples" / "django_app"
OLDEST = "4.2"
PYTHONS = {
    "installed": Path(sys.executable),
    OLDEST: Path(os.environ.get("OLD_DJANGO", ROOT / ".venv-django-4.2"), "bin", "python"),
}
if "NEWEST_DJANGO" in os.environ:
    PYTHONS["newest"] = Path(os.environ["NEWEST_DJANGO"])
IS_FULL = os.environ.get("MATRIX") == "full"

pytestmark = pytest.mark.xdist_group("django")


@dataclass
class Shop:
    """The project, its processes and what the endpoint received of it."""

    django: str
    python: Path
    env: dict[str, str]
    directory: Path
    endpoint: Endpoint
    processes: list[Process] = field(default_factory=list)

    def start(self, name: str, *command: str) -> Process:
        """Start a process of the project."""
        log = self.directory / f"{name}.log"
        process = Process([str(self.python), *command], log, self.env, cwd=self.directory / "project")
        self.processes.append(process)
        return process

    def run(self, *command: str) -> str:
        """Run a command of the project to its end; return what it prints."""
        ended = subprocess.run(
            [str(self.python), *command],
            env=self.env,
            cwd=self.directory / "project",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def states(self, task: str) -> list[str]:
        """Return the walks of all jobs of a task, in words."""
        of_task = [job for job, events in self.endpoint.jobs().items() if events[0]["job"]["name"] == task]
        return [" ".join(self.endpoint.states(job)) for job in of_task]


@pytest.fixture(scope="module", params=PYTHONS)
def shop(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """The project with its tables and a worker, on one version of Django."""
    python = PYTHONS[request.param]
    if not python.exists():
        pytest.skip(f"{python} is missing: make .venv-django-4.2/.installed")
    directory = tmp_path_factory.mktemp("django")
    subprocess.run(["cp", "-R", str(PROJECT), str(directory / "project")], check=True)
    endpoint = Endpoint()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "ACKLY_"))} | {
        "BROKER_URL": f"redis://127.0.0.1:{redis_server.port}/15",
        "DATABASE": str(directory / "shop.sqlite3"),
        "PYTHONPATH": str(Path(sluice_agent.__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_STATE_DIR": str(directory / "state"),
        "SLUICE_FLUSH_INTERVAL": "0.1",
        "SLUICE_HEARTBEAT_INTERVAL": "0",
    }
    shop = Shop(request.param, python, env, directory, endpoint)
    shop.run("manage.py", "migrate", "--verbosity", "0")
    worker = shop.start("worker", "-m", "celery", "-A", "shop", "worker", "-c", "1", "--without-mingle")
    wait_until(lambda: "is on for" in worker.logs(), 60, "the worker does not start", worker.tail)
    yield shop
    for process in shop.processes:
        process.stop(5)
    endpoint.close()
    assert endpoint.faults == []


@pytest.fixture(scope="module")
def post(shop: Shop) -> Callable[[str], int]:
    """`post(sku)`: order something at `runserver`, with its reloader; return the status."""
    port = free_port()
    server = shop.start("runserver", "manage.py", "runserver", f"127.0.0.1:{port}")
    wait_until(lambda: listens(port), 60, "runserver does not listen", server.tail)

    def post(sku: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/orders", urlencode({"sku": sku}), headers)
            return connection.getresponse().status
        finally:
            connection.close()

    return post


def skip_on_the_oldest(shop: Shop) -> None:
    """Skip a long test where it is not likely to differ, but for MATRIX=full."""
    if shop.django == OLDEST and not IS_FULL:
        pytest.skip("with MATRIX=full")


def test_a_request_reports_what_it_commits(shop: Shop, post: Callable[[str], int]) -> None:
    """A job of a transaction that was rolled back would be shown as queued for ever."""
    assert post("") == 500
    assert post("teapot") == 200
    wait_until(lambda: shop.states("shop.tasks.charge") == ["queued active completed"], 30)


def test_a_reload_loses_nothing(shop: Shop, post: Callable[[str], int]) -> None:
    """A developer who saves a file would see no further job, or each of them twice."""
    skip_on_the_oldest(shop)
    log = shop.directory / "runserver.log"
    before = len(shop.states("shop.tasks.charge"))
    reloads = log.read_text().count("Watching for file changes")
    (shop.directory / "project" / "shop" / "models.py").touch()
    wait_until(lambda: log.read_text().count("Watching for file changes") > reloads, 30, "no reload", log.read_text)

    def answers() -> bool:
        try:
            return post("cup") == 200
        except OSError:
            return False

    wait_until(answers, 30)
    wait_until(lambda: shop.states("shop.tasks.charge") == ["queued active completed"] * (before + 1), 30)


def test_a_command_delivers_before_it_ends(shop: Shop) -> None:
    """Jobs of a nightly command would be shown when the next process ships; and settings of Django would not count."""
    before = len(shop.states("shop.tasks.charge"))
    assert shop.run("manage.py", "place_orders", "3").strip() == "3 orders are placed."
    wait_until(lambda: shop.states("shop.tasks.charge") == ["queued active completed"] * (before + 3), 30)
    assert shop.states("shop.tasks.clear_sessions") == []  # SLUICE_IGNORE_TASKS, in settings.py
    ended = [event["job"] for events in shop.endpoint.jobs().values() for event in events if "job" in event]
    assert any("charged for" in job["extensions"].get("result", "") for job in ended)  # SLUICE_CAPTURE_ARGS, there too


SCHEDULE = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
PeriodicTask.objects.create(name="each second", task="shop.tasks.report", interval=second)
"""
RESULTS = (
    "from django_celery_results.models import TaskResult; print(TaskResult.objects.filter(status='SUCCESS').count())"
)


def test_beat_and_results_of_the_database(shop: Shop) -> None:
    """Jobs of schedules in the database would have no name of their schedule, or a result backend of models no end."""
    skip_on_the_oldest(shop)
    shop.run("manage.py", "shell", "-c", SCHEDULE)
    beat = shop.start("beat", "-m", "celery", "-A", "shop", "beat", "--max-interval", "1", "--pidfile", "")
    wait_until(lambda: "queued active completed" in shop.states("shop.tasks.report"), 60, "no report", beat.tail)
    beat.stop(10, signal.SIGTERM)
    queued = next(
        events[0]["job"]
        for events in shop.endpoint.jobs().values()
        if events[0]["job"]["name"] == "shop.tasks.report" and events[0]["job"]["state"] == "queued"
    )
    assert queued["extensions"]["periodicTask"] == "each second"
    assert int(shop.run("manage.py", "shell", "-c", RESULTS).split()[-1]) >= 1
