"""``sluice-agent serve``: a local Sluice."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import click

from sluice_agent.commands.common import UserError
from sluice_agent.commands.env_file import check_env_file, write_env_file
from sluice_agent.commands.logs import log_to_stderr
from sluice_agent.commands.quantities import age, size
from sluice_agent.commands.server_database import database_option, server_database
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65_535), help="0: any free port.")
@database_option
@click.option("--connection", help="A name, or a UUID: only keys of connections may then send events. Made if absent.")
@click.option(
    "--api-key",
    envvar=SLUICE.key_variable,
    help="An ingest key of the connection; without --connection, the only key that is accepted on loopback. "
    "[default: SLUICE_API_KEY]",
)
@click.option("--allow-host", multiple=True, help="A further name of this server. Repeatable.")
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy, or a network of them, whose X-Forwarded-For has the client's address. Those on this machine are "
    "trusted. Repeatable.",
)
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="[CONNECTION=]URL",
    envvar="SLUICE_BROKER_URL",
    help="The broker by which jobs are retried and revoked, and by which workers get runs of the jobs API; of one "
    "connection, if that is named. Repeatable. Better in "
    "SLUICE_BROKER_URL: other users of a machine see the arguments of its processes.",
)
@click.option(
    "--result-backend",
    "result_backends",
    multiple=True,
    metavar="[CONNECTION=]URL",
    help="Celery's result backend, for the arguments of jobs if it has them (result_extended). Repeatable.",
)
@click.option(
    "-A", "--app", metavar="NAME", help="The Celery app with the broker, as in celery -A, in place of --broker."
)
@click.option(
    "--actions-tasks",
    metavar="GLOBS",
    envvar="SLUICE_ACTIONS_TASKS",
    help="The tasks that may be retried, comma-separated. [default: those of live workers]",
)
@click.option(
    "--jobs-queue",
    default="sluice.jobs",
    show_default=True,
    envvar="SLUICE_JOBS_QUEUE",
    help="The queue from which workers take runs of the jobs API (celery worker -I sluice_agent.jobs.tasks -Q …).",
)
@click.option(
    "--jobs-slots",
    type=click.IntRange(1, 100_000),
    envvar="SLUICE_JOBS_SLOTS",
    help="How many of these runs are executed at a time. [default: what workers answer; 20 without a broker]",
)
@click.option(
    "--jobs-in-flight",
    default=2.0,
    show_default=True,
    type=click.FloatRange(1, 100),
    envvar="SLUICE_JOBS_IN_FLIGHT",
    help="How many runs are sent to workers at a time, for each that they execute.",
)
@click.option(
    "--jobs-tasks",
    metavar="GLOBS",
    envvar="SLUICE_JOBS_TASKS",
    help="The Celery tasks that may be jobs of the jobs API (celery://), comma-separated. [default: none]",
)
@click.option(
    "--jobs-task-queues",
    metavar="NAMES",
    envvar="SLUICE_JOBS_QUEUES",
    help="The queues that such jobs may name, comma-separated. [default: none; the task's own is used]",
)
@click.option(
    "--jobs-private-endpoints",
    is_flag=True,
    envvar="SLUICE_JOBS_PRIVATE_ENDPOINTS",
    help="Let jobs request private addresses, as of services beside the server. On loopback they always may.",
)
@click.option(
    "--jobs-environments",
    "environments_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SLUICE_JOBS_ENVIRONMENTS",
    help="Environments of the jobs API, in TOML: addresses and secrets of jobs that name one. It may be changed "
    "meanwhile.",
)
@click.option(
    "--jobs-keep",
    default="30d",
    show_default=True,
    callback=age,
    envvar="SLUICE_JOBS_KEEP",
    help="Age of runs of the jobs API that are deleted, or none. Dead letters stay.",
)
@click.option(
    "--jobs-request-limits",
    metavar="KIND=N,…",
    envvar="SLUICE_JOBS_REQUEST_LIMITS",
    help="Requests to the jobs API a minute that an address may send, such as trigger=10,all=100; the kinds are "
    "create, batch, trigger, bulk, all. [default: no limit]",
)
@click.option("--daily-limit", type=click.IntRange(1), help="Events of a connection in a UTC day. [default: no limit]")
@click.option(
    "--keep", callback=age, default="7d", show_default=True, help="Age of ended jobs that are deleted, or none."
)
@click.option(
    "--max-size",
    callback=size,
    default="5GB",
    show_default=True,
    help="Size of the database from which they are, or none.",
)
@click.option(
    "--alerts",
    "alerts_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Rules of alerts, in TOML, and the webhooks that they are sent to (sluice-agent alerts check).",
)
@click.option(
    "--write-env",
    "env_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the variables of workers into this file, such as .env, beside what it has.",
)
def serve(
    host: str,
    port: int,
    database: Path | str | None,
    connection: str | None,
    api_key: str | None,
    allow_host: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    brokers: tuple[str, ...],
    result_backends: tuple[str, ...],
    app: str | None,
    actions_tasks: str | None,
    jobs_queue: str,
    jobs_slots: int | None,
    jobs_in_flight: float,
    jobs_tasks: str | None,
    jobs_task_queues: str | None,
    jobs_private_endpoints: bool,
    environments_file: Path | None,
    jobs_keep: timedelta | None,
    jobs_request_limits: str | None,
    daily_limit: int | None,
    keep: timedelta | None,
    max_size: int | None,
    alerts_file: Path | None,
    env_file: Path | None,
) -> None:
    """Run a local Sluice: the ingest endpoint and the jobs API, with no account.

    It prints the variables that your workers need. On loopback any SLUICE_API_KEY that begins with sk_ is accepted;
    with --connection, and wherever others can reach the server, only keys that were made (sluice-agent key).
    The oldest jobs that have ended are deleted, by age and size; those under way are not.
    """
    try:
        # an extra: the other commands work without it
        from sluice_agent.jobs.engine.options import EngineOptions  # noqa: PLC0415
        from sluice_agent.jobs.environments import Environments  # noqa: PLC0415
        from sluice_agent.jobs.routes.request_limits import request_limits_of  # noqa: PLC0415
        from sluice_agent.server import runner  # noqa: PLC0415
        from sluice_agent.server.actions.assembly import ActionOptions, brokers_of  # noqa: PLC0415
        from sluice_agent.server.alerts.assembly import options_of  # noqa: PLC0415
        from sluice_agent.server.alerts.file import read_alerts  # noqa: PLC0415
        from sluice_agent.server.jobs_api import check_packages  # noqa: PLC0415
        from sluice_agent.server.store.retention import Keep  # noqa: PLC0415

        check_packages()
    except ImportError as error:
        raise UserError(f"serve needs its extra: pip install 'sluice-agent[server]' ({error})") from None
    log_to_stderr("text", "info")
    if env_file is not None:
        check_env_file(env_file)

    def ready(announcement: runner.Announcement) -> None:
        runner.announce(announcement)  # first: a key is shown once
        if env_file is not None:
            write_env_file(env_file, announcement.environment)

    runner.serve(
        host=host,
        port=port,
        database=server_database(database),
        allowed_hosts=allow_host,
        connection=connection,
        api_key=api_key,
        trusted_proxies=trusted_proxies,
        actions=ActionOptions(
            brokers_of(brokers, result_backends, app, connection),
            _names_in(actions_tasks),
        ),
        engine=EngineOptions(
            jobs_queue,
            jobs_slots,
            jobs_in_flight,
            _names_in(jobs_tasks),
            _names_in(jobs_task_queues),
            jobs_private_endpoints,
            None if environments_file is None else Environments(environments_file, os.environ),
            Settings().state_dir,
            keep=jobs_keep,
        ),
        request_limits=request_limits_of(jobs_request_limits),
        daily_limit=daily_limit,
        keep=Keep(keep, max_size),
        alerts=None if alerts_file is None else options_of(read_alerts(alerts_file), os.environ),
        ready=ready,
    )


def _names_in(text: str | None) -> tuple[str, ...]:
    """Return the names, or globs, in a text that separates them by commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
