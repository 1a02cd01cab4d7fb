"""Senders of rows: each function returns one, which runs in a producer's process and returns the job's id."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from celery import Celery

from tests.integration import tasks
from tests.support.process import free_port

TIMEOUT = 30.0
"""Seconds until a sender gives up; its row then fails."""

HELD_SECONDS = 8
"""Seconds until the ETA of a job that is revoked, or expires, before its ETA."""

_MAX_REVOKED = 4  # jobs: a worker that holds none of them does not run

BEAT_ENTRY = "every other second"
_SENT_BY_BEAT = re.compile(r" sent\. id->(\S+)\n")


def call(task: Any, *args: Any, **options: Any) -> Callable[[], str]:
    """Send the task as a user would."""
    return lambda: str(task.apply_async(args, **options).id)


def first_of(signature: Callable[[], Any]) -> Callable[[], str]:
    """Send a canvas; the row is about its first job."""

    def send() -> str:
        result = signature().apply_async()
        while result.parent is not None:
            result = result.parent
        return str((result.results or [result])[0].id if hasattr(result, "results") else result.id)

    return send


def last_of(signature: Callable[[], Any]) -> Callable[[], str]:
    """Send a canvas; the row is about its last job."""
    return lambda: str(signature().apply_async().id)


def linked(task: Any, *args: Any, **callback: Any) -> Callable[[], str]:
    """Send the task with `link` or `link_error`; the row is about the callback."""
    ((option, signature),) = callback.items()

    def send() -> str:
        task_id = str(uuid.uuid4())
        task.apply_async(args, **{option: signature.set(task_id=task_id)})
        return task_id

    return send


def published_by_a_task() -> str:
    """Send a task that publishes another task; the row is about the published one."""
    task_id = str(uuid.uuid4())
    tasks.publish_child.delay(task_id)
    return task_id


def revoked_early() -> str:
    """Revoke the job, wait until the worker knows it, then send it."""
    task_id = str(uuid.uuid4())
    _revoke(task_id)
    tasks.add.apply_async((1, 2), task_id=task_id)
    return task_id


def revoked_while_held() -> str:
    """Revoke a job that the worker holds for its ETA; with quorum queues the broker holds it, invisibly."""
    for _ in range(_MAX_REVOKED):
        until = time.monotonic() + HELD_SECONDS
        task_id = str(tasks.add.apply_async((1, 2), countdown=HELD_SECONDS).id)
        if _conf().get("task_default_queue_type") != "quorum":
            _wait_until(lambda: time.monotonic() > until or _is_held(task_id))  # noqa: B023 - called before the next
        _revoke(task_id)
        if time.monotonic() < until:  # if not, it may have run on this busy machine: send another job
            break
    return task_id


def terminated(signal: str) -> Callable[[], str]:
    """Revoke a running job with `terminate`."""

    def send() -> str:
        directory = _new_directory()
        result = tasks.hold.delay(str(directory / "started"), str(directory / "never"), 4.0)
        _wait_until((directory / "started").exists)
        tasks.app.control.revoke(result.id, terminate=True, signal=signal)
        return str(result.id)

    return send


def with_a_new_file(task: Any) -> Callable[[], str]:
    """Send the task with a path at which its first run creates a file that its second run finds."""
    return lambda: str(task.delay(str(_new_directory() / "marker")).id)


def by_beat() -> str:
    """Let a real beat send the job, and end it when its log contains that: killed earlier, beat would not report it."""
    directory = _new_directory()
    log = directory / "log"
    conf = {**_conf(), "beat_schedule": {BEAT_ENTRY: {"task": tasks.noop.name, "schedule": 2}}}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        tasks.__name__,
        "beat",
        "--pidfile=",
        "-s",
        str(directory / "beat"),
    ]
    with log.open("wb") as output:
        beat = subprocess.Popen(
            [*command, "-l", "debug"], env={**os.environ, "CELERY_CONF": json.dumps(conf)}, stderr=output
        )
    try:
        _wait_until(lambda: _SENT_BY_BEAT.search(log.read_text()))
    finally:
        beat.terminate()
        beat.wait(TIMEOUT)
    sent = _SENT_BY_BEAT.search(log.read_text())
    if sent is None:
        raise AssertionError(f"beat sent nothing\n{log.read_text()}")
    return sent[1]


def by_an_app_with(task: Any, *args: Any, **conf: Any) -> Callable[[], str]:
    """Send the task from an app with other settings."""

    def send() -> str:
        app = Celery(set_as_current=False, broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
        app.conf.update({**_conf(), **conf})
        return str(app.tasks[task.name].apply_async(args).id)

    return send


def to_no_broker(task: Any, *args: Any) -> Callable[[], str]:
    """Send the task to a port on which no broker listens."""

    def send() -> str:
        task_id = str(uuid.uuid4())
        with closing(Celery(set_as_current=False, broker=f"redis://127.0.0.1:{free_port()}")) as app:
            app.conf.update({**_conf(), "task_publish_retry": False, "broker_transport_options": {}})
            try:
                app.tasks[task.name].apply_async(args, task_id=task_id, ignore_result=True)
            except app.tasks[task.name].OperationalError:
                return task_id
        raise AssertionError("a broker listens there")

    return send


def message(body: Any, headers: Mapping[str, Any] | None = None, **properties: Any) -> Callable[[], str]:
    """Publish a message that Celery has not made; ``ID`` in it stands for the job's id."""

    def send() -> str:
        task_id = str(uuid.uuid4())
        text = json.dumps([body, headers or {}, properties]).replace('"ID"', json.dumps(task_id))
        message_body, message_headers, message_properties = json.loads(text)
        with tasks.app.producer_or_acquire() as producer:
            queue = tasks.app.conf.task_default_queue
            producer.publish(
                message_body, routing_key=queue, exchange="", headers=message_headers, **message_properties
            )
        return task_id

    return send


def _new_directory() -> Path:
    """Create a directory inside that of the test run."""
    return Path(tempfile.mkdtemp(dir=os.environ["ROWS_DIRECTORY"]))


def _conf() -> dict[str, Any]:
    conf: dict[str, Any] = json.loads(os.environ.get("CELERY_CONF", "{}"))
    return conf


def _revoke(task_id: str) -> None:
    """Revoke until the worker knows it: a broadcast before the worker listens is lost."""
    _wait_until(lambda: tasks.app.control.revoke(task_id) or _is_known_as_revoked(task_id))


def _is_known_as_revoked(task_id: str) -> bool:
    replies = tasks.app.control.inspect(timeout=0.5).revoked() or {}
    return any(task_id in task_ids for task_ids in replies.values())


def _is_held(task_id: str) -> bool:
    held = tasks.app.control.inspect(timeout=0.5).scheduled() or {}
    return any(task_id == entry["request"]["id"] for entries in held.values() for entry in entries)


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
