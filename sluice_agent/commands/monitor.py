"""``sluice-agent monitor`` and ``celery -A app sluice``: the sidecar, one process beside a cluster.

It captures nothing of the process it runs in: all its events derive from the broker.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sluice_agent import __version__, _public
from sluice_agent.agent import Agent
from sluice_agent.commands.common import NO_KEY, UserError, open_journal
from sluice_agent.commands.logs import LogFormat, log_to_stderr
from sluice_agent.commands.probes import serve_probes
from sluice_agent.globs import matcher
from sluice_agent.host_budgets import EXIT_BUDGET
from sluice_agent.lifecycle.redaction import guarded_redact
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import logger
from sluice_agent.monitor import DurableQueue, Monitor
from sluice_agent.monitor.broker.broker_app import AddressFile, BrokerApp, check_address
from sluice_agent.monitor.broker.durable import why_not_durable
from sluice_agent.monitor.queues.management import Management
from sluice_agent.settings import Settings

_GC_THRESHOLDS = (20_000, 20, 100)
"""Thresholds of the garbage collector. The records of tasks are many and contain no cycles: to traverse them as often
as Python does by default costs a tenth more per event."""


def _check_url(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None:
        try:
            Management(url, "/", "", "")
        except ValueError as error:
            raise UserError(f"--management-url: {error}") from None
    return url


def _check_queue_name(_context: click.Context, option: click.Parameter, value: Any) -> Any:
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise UserError(f"{option.opts[0]} must name a queue: it is empty")
    return value


_OPTIONS = (
    click.option(
        "--queue",
        "queues",
        multiple=True,
        metavar="NAME",
        callback=_check_queue_name,
        help="Also sample this queue, while this agent is elected to sample; may be repeated.",
    ),
    click.option(
        "--durable",
        metavar="NAME",
        callback=_check_queue_name,
        help="RabbitMQ: collect events in a durable queue of this name, which any number of sidecars may share: one is "
        "active, the others stand by. No event is lost while none runs.",
    ),
    click.option(
        "--durable-messages",
        default=1_000_000,
        show_default=True,
        type=click.IntRange(1),
        help="Maximum number of messages in that queue; beyond it the oldest are dropped.",
    ),
    click.option(
        "--durable-seconds",
        default=86_400.0,
        show_default=True,
        type=click.FloatRange(1),
        help="Maximum age of a message in that queue.",
    ),
    click.option(
        "--enable-events/--no-enable-events",
        default=True,
        show_default=True,
        help="Ask workers that run without -E to send task events.",
    ),
    click.option(
        "--remember",
        default=100_000,
        show_default=True,
        type=click.IntRange(1),
        help="Number of tasks to remember, at about 1 kB per task, and a third of that once it has ended: most events "
        "carry only the task's id.",
    ),
    click.option(
        "--management-url",
        envvar="SLUICE_MANAGEMENT_URL",
        metavar="URL",
        callback=_check_url,
        help="RabbitMQ's management API, for the metric of unacknowledged messages.",
    ),
    click.option(
        "--log-format",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help="Format of the log on standard error.",
    ),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.option(
    "--broker",
    envvar=["SLUICE_BROKER_URL", "SLUICE_REDIS_URL", "CELERY_BROKER_URL"],
    metavar="URL",
    help="The broker's address; several, separated by ;, are tried in turn. Better in SLUICE_BROKER_URL: other users "
    "of a machine see the arguments of its processes.",
)
@click.option(
    "--broker-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that contains the address. It is read at every connection, so credentials may change.",
)
@click.option(
    "--transport-options",
    default="{}",
    metavar="JSON",
    help="Celery's broker_transport_options, such as global_keyprefix.",
)
@click.option(
    "--event-exchange",
    metavar="NAME",
    help="The cluster's event_exchange, if its app sets one: all events pass through it.",
)
@_with_options
def monitor(
    broker: str | None, broker_file: Path | None, transport_options: str, event_exchange: str | None, **options: Any
) -> None:
    """Monitor a cluster from outside, by its broker's events and queues. No app is needed.

    Runs until SIGTERM or SIGINT, then delivers the remaining events for up to 5 seconds.
    """
    if bool(broker) == bool(broker_file):
        raise UserError("name the broker: --broker URL, SLUICE_BROKER_URL, or --broker-file FILE")
    try:
        parsed_options = json.loads(transport_options)
    except ValueError:
        parsed_options = None
    if not isinstance(parsed_options, dict):
        raise UserError(f"--transport-options must be a JSON object, not {transport_options!r}")
    try:
        app = BrokerApp(_address(broker, broker_file), parsed_options, event_exchange)
    except ValueError as error:
        raise UserError(str(error)) from None
    run_monitor(app, **options)


@click.command(name="sluice")
@_with_options
@click.pass_context
def celery_sluice(context: click.Context, /, **options: Any) -> None:
    """Monitor this app's cluster from outside, by its broker's events and queues, for a Sluice ingest endpoint."""
    app = context.obj.app
    options["queues"] = (*options["queues"], *app.amqp.queues)
    run_monitor(app, **options)


def run_monitor(
    app: Any,
    *,
    queues: tuple[str, ...],
    durable: str | None,
    durable_messages: int,
    durable_seconds: float,
    enable_events: bool,
    remember: int,
    management_url: str | None,
    log_format: LogFormat,
) -> None:
    """Monitor the cluster of `app`, a Celery app, until SIGTERM or SIGINT. SIGHUP is ignored.

    If the app installs the agent, events pass through the hooks that were given to `install`.
    """
    settings = Settings()
    if not settings.active:
        raise UserError(NO_KEY if settings.enabled else settings.off_reason)
    if durable and (why_not := why_not_durable(app)):
        raise UserError(why_not)
    directory = open_journal(settings)
    log_to_stderr(log_format, settings.log_level)
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Before any thread starts: threads inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*stop_signals, signal.SIGHUP})
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # process 1 of a container must reap its orphans
    agent = _public.installed() or Agent(settings, None, None)
    sink = Sink(
        emit=agent.capture,
        emit_all=agent.capture_all,
        drop=agent.drop,
        connection_id=str(settings.connection),
        is_ignored=matcher(settings.ignore_tasks),
        redact=guarded_redact(agent.redact) if settings.capture_args else None,
        can_keep=agent.can_keep,
    )
    sidecar = Monitor(
        app,
        sink,
        remember=remember,
        heartbeat_interval=settings.heartbeat_interval,
        enable_events=enable_events,
        durable=DurableQueue(durable, durable_messages, durable_seconds) if durable else None,
        queue_interval=settings.queue_interval,
        queues=queues,
        management_url=management_url,
    )
    probes = serve_probes(settings, directory, sidecar.state)
    logger.info(
        "sluice-agent %s monitors %s; its journal is %s", __version__, app.connection_for_read().as_uri(), directory
    )
    gc.freeze()  # the objects that exist now live as long as the process
    gc.set_threshold(*_GC_THRESHOLDS)
    agent.ship()
    sidecar.start()
    while signal.sigwait({*stop_signals, signal.SIGHUP}) not in stop_signals:
        pass
    logger.info("Received a stop signal: the remaining events are delivered within %g s", EXIT_BUDGET)
    sidecar.stop(EXIT_BUDGET)
    agent.shutdown(EXIT_BUDGET)
    if probes is not None:
        probes.stop()


def _address(broker: str | None, broker_file: Path | None) -> Callable[[], str]:
    if broker_file is not None:
        return AddressFile(broker_file)
    check_address(broker or "")
    return lambda: broker or ""
