"""The jobs API put together: its database, its routes' changes, and the engine, from the options of `serve`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.carrier import Carrier
from sluice_agent.jobs.engine.engine import Engine
from sluice_agent.jobs.engine.options import DEFAULT_SLOTS, EngineOptions
from sluice_agent.jobs.engine.tasks import TaskEngine
from sluice_agent.jobs.execution.attempts import AttemptChanges
from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.task_events.follower import held_jobs
from sluice_agent.jobs.webhooks.sending import webhook_sender
from sluice_agent.server.actions.broker import Broker
from sluice_agent.server.store import Store
from sluice_agent.server.store.database import Database
from sluice_agent.server.webhooks.sender import Sender


@dataclass(frozen=True, slots=True)
class JobsRoom:
    """What runs jobs in this server."""

    store: JobsStore
    changes: GroupedChanges
    attempts: AttemptChanges
    engine: Engine | None
    webhooks: Sender | None

    def start(self) -> None:
        """Begin to run what waits, and to send the webhooks of what has ended."""
        if self.engine is not None:
            self.engine.start()
        if self.webhooks is not None:
            self.webhooks.start()

    def close(self) -> None:
        """Stop the engine, make the changes that wait, send no more webhooks, and close the database."""
        if self.engine is not None:
            self.engine.close()
        self.changes.close()
        if self.webhooks is not None:
            self.webhooks.close()
        self.store.close()


def open_jobs(
    database: Database,
    events: Store,
    options: EngineOptions | None,
    broker: Broker | None,
    now: Callable[[], datetime],
    *,
    allows_private: bool,
) -> JobsRoom:
    """Return what runs the jobs of the database: by workers of `broker`, or without one in this process.

    `events` has those of Celery tasks that are jobs. It keeps them until their outcome is known.

    Without `options` no engine works here: runs wait for that of another server. `allows_private`: requests may go to
    private addresses. Raises `ConfigError` if the database can't be used.
    """
    store = JobsStore(database, now)
    changes = GroupedChanges(store)
    environments = None if options is None else options.environments
    attempts = AttemptChanges(store, changes, environments, allows_private=allows_private)
    events.hold_jobs(lambda connections: held_jobs(store, connections))
    if options is None:
        return JobsRoom(store, changes, attempts, None, None)
    connection = None if broker is None else BrokerConnection(broker)
    carrier = _carrier(store, attempts, options, connection)
    tasks = TaskEngine(store, events, connection, options, random.random)
    webhooks = webhook_sender(store, allows_private=allows_private)
    return JobsRoom(store, changes, attempts, Engine(store, carrier, options, tasks=tasks), webhooks)


def _carrier(
    store: JobsStore, attempts: AttemptChanges, options: EngineOptions, connection: BrokerConnection | None
) -> Carrier:
    if connection is None:
        from sluice_agent.jobs.engine.pool import PoolCarrier  # noqa: PLC0415 - the HTTP client takes memory

        return PoolCarrier(attempts, store.token_secret, options.slots or DEFAULT_SLOTS, options.state_dir)
    from sluice_agent.jobs.engine.messages import MessageCarrier  # noqa: PLC0415 - not needed without a broker

    return MessageCarrier(connection, options)
