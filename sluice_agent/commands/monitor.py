"""``sluice-agent monitor`` and ``celery -A app sluice``: the sidecar, one process beside a cluster.

It captures nothing of its own process: what it tells is what the broker tells it.
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
from sluice_agent.agent import EXIT_BUDGET, Agent
from sluice_agent.commands.common import UserError, open_journal
from sluice_agent.commands.logs import LogFormat, log_to_stderr
from sluice_agent.commands.probes import serve_probes
from sluice_agent.log import logger
from sluice_agent.monitor import DurableQueue, Monitor
from sluice_agent.monitor.broker_app import AddressFile, BrokerApp, check_address
from sluice_agent.monitor.durable import why_not_durable
from sluice_agent.monitor.queues.management import Management
from sluice_agent.redaction import unfailing
from sluice_agent.settings import Settings

_COLLECT = (20_000, 20, 100)
"""How often garbage is looked for. What is remembered of tasks is much, and none of it refers back: to walk through it
as often as Python does by default costs each event a tenth more."""


def _checked(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None:
        try:
            Management(url, "/", "", "")
        except ValueError as error:
            raise UserError(f"--management-url: {error}") from None
    return url


def _named(_context: click.Context, option: click.Parameter, value: Any) -> Any:
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise UserError(f"{option.opts[0]} must name a queue: it is empty")
    return value


_OPTIONS = (
    click.option(
        "--queue",
        "queues",
        multiple=True,
        metavar="NAME",
        callback=_named,
        help="Sample this queue too, while this is the agent that was elected to sample; may be repeated.",
    ),
    click.option(
        "--durable",
        metavar="NAME",
        callback=_named,
        help="RabbitMQ: collect events in a durable queue of this name, which any number of sidecars share: one is "
        "active, the others stand by. No event is lost while none runs.",
    ),
    click.option(
        "--durable-messages",
        default=1_000_000,
        show_default=True,
        type=click.IntRange(1),
        help="The most messages in that queue; then the oldest go.",
    ),
    click.option(
        "--durable-seconds",
        default=86_400.0,
        show_default=True,
        type=click.FloatRange(1),
        help="How long a message stays in that queue.",
    ),
    click.option(
        "--enable-events/--no-enable-events",
        default=True,
        show_default=True,
        help="Tell workers that run without -E to send events of their tasks.",
    ),
    click.option(
        "--remember",
        default=100_000,
        show_default=True,
        type=click.IntRange(1),
        help="How many tasks to remember, at about 1 kB each: most events carry no more than a task's id.",
    ),
    click.option(
        "--management-url",
        envvar="SLUICE_MANAGEMENT_URL",
        metavar="URL",
        callback=_checked,
        help="RabbitMQ's management API, for the metric of unacknowledged messages.",
    ),
    click.option(
        "--log-format",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help="On standard error.",
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
    help="A file that holds the address. It is read at each connection, so credentials may change.",
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
    help="The cluster's event_exchange, where its app sets one: events come through no other.",
)
@_with_options
def monitor(
    broker: str | None, broker_file: Path | None, transport_options: str, event_exchange: str | None, **options: Any
) -> None:
    """Watch a cluster from outside, by its broker's events and queues. No app is needed.

    Runs until SIGTERM or SIGINT, then delivers what is left for up to 5 seconds.
    """
    if bool(broker) == bool(broker_file):
        raise UserError("name the broker: --broker URL, SLUICE_BROKER_URL, or --broker-file FILE")
    try:
        known = json.loads(transport_options)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise UserError(f"--transport-options must be a JSON object, not {transport_options!r}")
    try:
        app = BrokerApp(_address(broker, broker_file), known, event_exchange)
    except ValueError as error:
        raise UserError(str(error)) from None
    run_monitor(app, **options)


@click.command(name="sluice")
@_with_options
@click.pass_context
def celery_sluice(context: click.Context, /, **options: Any) -> None:
    """Watch this app's cluster from outside and tell a Sluice ingest endpoint, by its broker's events and queues."""
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
    """Monitor the cluster of `app`, a Celery app, until SIGTERM or SIGINT. SIGHUP does nothing.

    Where the app installs the agent, events pass through the hooks that were given to `install`.
    """
    settings = Settings()
    if not settings.active:
        why = (
            "SLUICE_API_KEY is not set: it must hold the ingest key, sk_…"
            if settings.enabled
            else "SLUICE_ENABLED is 0"
        )
        raise UserError(why)
    if durable and (why_not := why_not_durable(app)):
        raise UserError(why_not)
    directory = open_journal(settings)
    log_to_stderr(log_format, settings.log_level)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*ends, signal.SIGHUP})  # before any thread: they inherit it
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of a container are the first process's to bury
    agent = _public.installed() or Agent(settings, None, None)
    watched = Monitor(
        app,
        connection_id=str(settings.connection),
        emit=agent.capture,
        drop=agent.drop,
        ignore_tasks=settings.ignore_tasks,
        redact=unfailing(agent.redact) if settings.capture_args else None,
        remember=remember,
        heartbeat_interval=settings.heartbeat_interval,
        enable_events=enable_events,
        durable=DurableQueue(durable, durable_messages, durable_seconds) if durable else None,
        queue_interval=settings.queue_interval,
        queues=queues,
        management_url=management_url,
        can_keep=agent.can_keep,
    )
    probes = serve_probes(settings, directory, watched.state)
    logger.info(
        "sluice-agent %s watches %s; its journal is %s", __version__, app.connection_for_read().as_uri(), directory
    )
    gc.freeze()  # what stands now stays
    gc.set_threshold(*_COLLECT)
    agent.ship()
    watched.start()
    while signal.sigwait({*ends, signal.SIGHUP}) not in ends:
        pass
    logger.info("Told to end: what is left is delivered within %g s", EXIT_BUDGET)
    watched.stop(EXIT_BUDGET)
    agent.shutdown(EXIT_BUDGET)
    if probes is not None:
        probes.stop()


def _address(broker: str | None, broker_file: Path | None) -> Callable[[], str]:
    if broker_file is not None:
        return AddressFile(broker_file)
    check_address(broker or "")
    return lambda: broker or ""
