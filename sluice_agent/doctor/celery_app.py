"""A Celery app: its broker, and those of its settings that decide what can be seen of its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.app.utils import find_app
from celery.signals import worker_ready

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning

_CONNECT_SECONDS = 5.0
_VISIBILITY = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800}  # seconds, by transport: kombu's defaults


def check_app(name: str) -> Iterator[Finding]:
    """The app that ``celery -A name`` would find."""
    try:
        app = find_app(name)
        conf = app.conf
        conf.broker_url  # noqa: B018 - settings are read at the first look: a fault in them shows here
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a user's module may raise anything
        todo = f"`celery -A {name} report` must work in this folder and environment"
        yield fault("app", f"{name} can't be loaded: {type(error).__name__}: {error}", todo)
        return
    yield _installed(name)
    yield _broker(app)
    yield from _settings(conf, str(app.connection_for_read().transport_cls or ""))


def _installed(name: str) -> Finding:
    if any(key[0] == f"sluice_agent.{worker_ready.name}" for key, _ in worker_ready.receivers):
        return ok("app", f"{name} installs the agent")
    todo = "call sluice_agent.install() where the app is made, or start its workers with `-I sluice_agent.auto`"
    return warning("app", f"{name} does not install the agent, or the agent is off", todo)


def _broker(app: Any) -> Finding:
    connection = app.connection_for_read(connect_timeout=_CONNECT_SECONDS)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_CONNECT_SECONDS)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        found = f"{connection.as_uri()} can't be reached: {type(error).__name__}: {error}"
        return fault("broker", found, "no worker can work either: see broker_url")
    finally:
        connection.release()
    return ok("broker", f"{connection.as_uri()} can be reached")


def _settings(conf: Any, transport: str) -> Iterator[Finding]:
    if conf.task_always_eager:
        todo = "unset task_always_eager outside of tests"
        yield warning("celery", "task_always_eager: tasks run where they are sent, and no worker sees them", todo)
    yield from _redelivery(conf, transport)
    if conf.task_acks_late and not conf.task_reject_on_worker_lost:
        found = "task_acks_late without task_reject_on_worker_lost: a job whose process is killed ends as failed"
        yield note("celery", found, "set task_reject_on_worker_lost if such jobs shall run again")
    if conf.task_time_limit and not conf.task_soft_time_limit:
        found = f"task_time_limit ({conf.task_time_limit:g} s) kills a pool process: its error has no traceback"
        yield note("celery", found, "set task_soft_time_limit a little below it")
    if not conf.worker_hijack_root_logger:
        found = "worker_hijack_root_logger is off: what the agent warns of is seen only if your logging shows it"
        yield note("celery", found, "give the logger sluice_agent a handler")
    if conf.task_protocol < 2:
        yield warning("celery", "task_protocol 1 carries no rootId, parentId or groupId", "set task_protocol to 2")
    if conf.worker_send_task_events or conf.task_send_sent_event:
        found = "worker_send_task_events or task_send_sent_event is on: the agent inside workers does not need it"
        yield note("celery", found, "it costs each task; keep it for `celery -A … sluice`, or for Flower")
    yield ok("celery", "no other setting matters: not task_track_started, task_ignore_result or a result backend")


def _redelivery(conf: Any, transport: str) -> Iterator[Finding]:
    """What Redis and SQS deliver again when it is not acknowledged within a time."""
    if transport.lower() not in _VISIBILITY:
        return
    seconds = (conf.broker_transport_options or {}).get("visibility_timeout", _VISIBILITY[transport.lower()])
    found = f"visibility_timeout is {seconds:g} s: a job that waits longer for its ETA or countdown runs more than once"
    todo = "set broker_transport_options visibility_timeout above the longest ETA, and the longest task"
    if conf.task_acks_late and not (conf.task_time_limit and conf.task_time_limit < seconds):
        yield warning("celery", f"{found}; so does, with task_acks_late, one that takes longer", todo)
    else:
        yield note("celery", found, todo)
