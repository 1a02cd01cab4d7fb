"""A Celery app: its broker, and those of its settings that decide what the agent can observe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.app.utils import find_app
from celery.signals import worker_ready

from sluice_agent.doctor.findings import Finding, fault, note, ok, warning
from sluice_agent.missing_patches import MISSING_PATCHES, MissingPatches

_CONNECT_SECONDS = 5.0
_VISIBILITY = {"redis": 3600, "rediss": 3600, "sentinel": 3600, "sqs": 1800}  # seconds, by transport: kombu's defaults


def check_app(name: str) -> Iterator[Finding]:
    """Check the app that ``celery -A name`` would find."""
    try:
        app = find_app(name)
        conf = app.conf
        conf.broker_url  # noqa: B018 - the first access loads the settings and raises their errors
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a user's module may raise anything
        todo = f"`celery -A {name} report` must work in this directory and environment"
        yield fault("app", f"{name} can't be loaded: {_describe(error)}", todo)
        return
    yield _agent_finding(name)
    yield from missing_patch_findings(MISSING_PATCHES)
    try:
        connection = app.connection_for_read(connect_timeout=_CONNECT_SECONDS)
        transport = str(connection.transport_cls or "")
    except Exception as error:  # noqa: BLE001 - every transport has its own errors
        # Other texts than a KeyError's may contain the password.
        reason = _describe(error) if isinstance(error, KeyError) else type(error).__name__
        found = f"broker_url and broker_transport_options don't form a connection ({reason})"
        yield fault("broker", found, "name a transport that is installed, a port, and the password percent-encoded")
        transport = ""
    else:
        yield _broker_finding(connection)
    yield from _setting_findings(conf, transport)


def _agent_finding(name: str) -> Finding:
    if any(key[0] == f"sluice_agent.{worker_ready.name}" for key, _ in worker_ready.receivers):
        return ok("app", f"{name} installs the agent")
    todo = "call sluice_agent.install() where the app is made, or start its workers with `-I sluice_agent.auto`"
    return warning("app", f"{name} does not install the agent, or the agent is off", todo)


def missing_patch_findings(missing_patches: MissingPatches) -> Iterator[Finding]:
    """Yield what the installed agent can't observe in this version of Celery."""
    for method, effect in missing_patches.effects().items():
        todo = "look for a newer sluice-agent; until then install a version of Celery and kombu that this one supports"
        yield warning("celery", f"{method} is missing or differs in this version: {effect}", todo)


def _broker_finding(connection: Any) -> Finding:
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_CONNECT_SECONDS)
    except Exception as error:  # noqa: BLE001 - every transport has its own errors
        found = f"{connection.as_uri()} can't be reached: {_describe(error)}"
        return fault("broker", found, "workers can't connect either: see broker_url")
    finally:
        connection.release()
    return ok("broker", f"{connection.as_uri()} can be reached")


def _setting_findings(conf: Any, transport: str) -> Iterator[Finding]:
    if conf.task_always_eager:
        found = "task_always_eager: tasks run in the process that publishes them, and no worker receives them"
        yield warning("celery", found, "unset task_always_eager outside of tests")
    yield from _redelivery_findings(conf, transport)
    for name in ("task_time_limit", "task_soft_time_limit", "task_protocol"):
        yield from _number_findings(name, conf[name])
    if conf.task_acks_late and not conf.task_reject_on_worker_lost:
        found = "task_acks_late without task_reject_on_worker_lost: a job whose process is killed ends as failed"
        yield note("celery", found, "set task_reject_on_worker_lost if such jobs must run again")
    if _is_number(conf.task_time_limit) and conf.task_time_limit and not conf.task_soft_time_limit:
        found = f"task_time_limit ({conf.task_time_limit:g} s) kills a pool process: its error has no traceback"
        yield note("celery", found, "set task_soft_time_limit a little below it")
    if not conf.worker_hijack_root_logger:
        found = "worker_hijack_root_logger is off: the agent's warnings appear only if your logging shows them"
        yield note("celery", found, "give the logger sluice_agent a handler")
    if _is_number(conf.task_protocol) and conf.task_protocol < 2:
        yield warning("celery", "task_protocol 1 carries no rootId, parentId or groupId", "set task_protocol to 2")
    if conf.worker_send_task_events or conf.task_send_sent_event:
        found = "worker_send_task_events or task_send_sent_event is on: the agent inside workers does not need it"
        yield note("celery", found, "it costs time in every task; keep it for `celery -A … sluice`, or for Flower")
    yield ok("celery", "no other setting matters: not task_track_started, task_ignore_result or a result backend")


def _redelivery_findings(conf: Any, transport: str) -> Iterator[Finding]:
    """Check the time after which Redis and SQS deliver an unacknowledged message again."""
    if transport.lower() not in _VISIBILITY:
        return
    seconds = dict(conf.broker_transport_options or {}).get("visibility_timeout", _VISIBILITY[transport.lower()])
    if not _is_number(seconds):
        yield _not_a_number("visibility_timeout", seconds)
        return
    found = f"visibility_timeout is {seconds:g} s: a job that waits longer for its ETA or countdown runs more than once"
    todo = "set broker_transport_options visibility_timeout above the longest ETA, and the longest task"
    limit = conf.task_time_limit if _is_number(conf.task_time_limit) else 0
    if conf.task_acks_late and not 0 < limit < seconds:
        yield warning("celery", f"{found}; with task_acks_late, so does a task that takes longer", todo)
    else:
        yield note("celery", found, todo)


def _number_findings(name: str, value: Any) -> Iterator[Finding]:
    if value is not None and not _is_number(value):
        yield _not_a_number(name, value)


def _not_a_number(name: str, value: Any) -> Finding:
    return fault("celery", f"{name} is {value!r}, and Celery needs a number", "set it to a number, without quotes")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.args[0] if isinstance(error, KeyError) and error.args else error}"
