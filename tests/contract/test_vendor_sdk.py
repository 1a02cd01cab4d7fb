"""The vendor's SDK, as it is published: a real worker reports to a real server of ours, and nothing is configured but
the address.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.local_sluice import LocalSluice
from tests.support.process import ROOT, Process
from tests.support.waiting import wait_until

APP = "tests.contract.vendor_app"
PUBLISH = f"""
import json
from {APP} import add, fail, retry
print(json.dumps({{"add": add.delay(2, 3).id, "fail": fail.delay().id, "retry": retry.delay().id}}))
"""
SEND_TWICE = """
import json, os
from sluice._events import normalize_task_event
from sluice._transport import SluiceTransport
names = {"task-received": {}, "task-started": {}, "task-succeeded": {"runtime": 0.5}}
events = [
    normalize_task_event({"type": name, "uuid": "twice", "name": "shop.pay", "timestamp": 1772186400.5 + n, **more})
    for n, (name, more) in enumerate(names.items())
]
transport = SluiceTransport(
    os.environ["SLUICE_API_KEY"],
    base_url=os.environ["SLUICE_BASE_URL"],
    connection_id=os.environ["SLUICE_CONNECTION_ID"],
)
print(json.dumps([len(events), transport.send_batch(events), transport.send_batch(events)]))
"""

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the SDK needs Python 3.11")


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of the venv that has the SDK."""
    venv = Path(os.environ.get("VENDOR_SDK", ROOT / ".venv-vendor-sdk"))
    interpreter = venv / "bin" / "python"
    if not interpreter.exists():
        pytest.fail(f"the vendor's SDK is not installed: run make {venv}/.installed", pytrace=False)
    return str(interpreter)


@pytest.fixture(scope="module")
def client(server: LocalSluice) -> httpx.Client:
    """A client with the ingest key of the server's connection."""
    assert server.access.new_key is not None
    return server.client({"Authorization": f"Bearer {server.access.new_key.secret}"})


@pytest.fixture(scope="module")
def env(server: LocalSluice, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that the SDK's documentation asks for, and the broker's directory."""
    key, folder = server.access.new_key, tmp_path_factory.mktemp("broker")
    assert key is not None
    for name in ("messages", "processed", "control"):
        (folder / name).mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "BROKER_FOLDER": str(folder),
        "SLUICE_API_KEY": key.secret,
        "SLUICE_CONNECTION_ID": key.connection.id,
        "SLUICE_BASE_URL": server.url,
    }


@pytest.fixture(scope="module")
def jobs(python: str, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The ids of a job of each task, by its name, while a worker with the SDK runs.

    With prefork the SDK reports receipts only: it connects its other handlers after the first children were forked.
    """
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    options = ("-P", "threads", "-c", "1", "-l", "INFO", "--without-mingle", "--without-gossip")
    worker = Process([python, "-m", "celery", "-A", APP, "worker", *options], log, env)
    try:
        wait_until(lambda: " ready." in log.read_text(), 40, "the worker is not ready", log.read_text)
        yield json.loads(_run(python, PUBLISH, env))
    finally:
        worker.stop()


def _run(python: str, code: str, env: Mapping[str, str]) -> str:
    return subprocess.run([python, "-c", code], env=env, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("task", "state", "walk"),
    [
        ("add", "completed", ["queued", "active", "completed"]),
        ("fail", "failed", ["queued", "active", "failed"]),
        ("retry", "completed", ["queued", "active", "retrying", "queued", "active", "completed"]),
    ],
)
def test_a_job_is_shown_from_its_queue_to_its_end(
    client: httpx.Client, jobs: Mapping[str, str], task: str, state: str, walk: list[str]
) -> None:
    """Who comes from the vendor with a running worker would otherwise have to change it first."""

    def record() -> dict[str, Any]:
        response = client.get(f"/jobs/{jobs[task]}")
        return dict(response.json()) if response.status_code == 200 else {}

    def states() -> list[str]:
        return [entry["state"] for entry in record().get("stateHistory", [])]

    wait_until(lambda: states()[-1:] == walk[-1:], context=record)
    assert states() == walk
    job = record()
    assert (job["state"], job["name"], job["framework"]) == (state, f"{APP}.{task}", "celery")
    assert job["startedAt"] is not None
    if task == "fail":
        assert "no such order" in job["error"]
        assert job["stacktrace"]  # the SDK sends the repr of the traceback object


def test_a_batch_that_is_sent_twice_is_counted_once(client: httpx.Client, python: str, env: Mapping[str, str]) -> None:
    """After a lost answer the SDK repeats its request, and its events carry no id."""

    def used() -> int:
        return int(client.post("/ingest", json={"events": []}).json()["usage"]["events"])

    before = used()
    count, first, second = json.loads(_run(python, SEND_TWICE, env))
    assert (count, first, second) == (3, True, True)
    assert used() - before == count
    assert client.get("/jobs/twice").json()["state"] == "completed"
