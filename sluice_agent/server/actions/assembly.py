"""Acting put together: from the options of `serve` to what the routes use."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.accounts import Accounts, as_stored
from sluice_agent.server.access.audit import AuditLog
from sluice_agent.server.actions.acting import Actions
from sluice_agent.server.actions.broker import Broker
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.bulk import BulkRunner
from sluice_agent.server.actions.ledger import BulkAction, Ledger
from sluice_agent.server.actions.matching import matching_jobs
from sluice_agent.server.actions.permission import Permission
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.store import Store

_LEASE = "bulk actions"
_LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """What `serve` is given: `brokers`, and globs of the `tasks` that may be retried (none: those of live workers)."""

    brokers: Brokers = field(default_factory=Brokers)
    tasks: tuple[str, ...] = ()


NO_ACTIONS = ActionOptions()
"""No broker is known: nothing can be retried or revoked."""


@dataclass(frozen=True, slots=True)
class Acting:
    """What the routes use."""

    store: Store
    actions: Actions
    ledger: Ledger
    runner: BulkRunner

    def start(self) -> None:
        """Take up the bulk actions that an earlier process has left."""
        self.runner.start()

    def close(self) -> None:
        """Stop the bulk action that runs, after the job that it is at."""
        self.runner.close()


def acting_of(
    store: Store, options: ActionOptions, accounts: Accounts, audit: AuditLog, now: Callable[[], datetime]
) -> Acting:
    """Return what acts on the jobs of `store`, for the keys of `accounts`."""
    permission = Permission(options.tasks, accounts.is_keyed, time.monotonic)
    actions = Actions(store, options.brokers, permission, audit, now)
    ledger = Ledger(store, now)
    lease = store.lease(_LEASE, _LEASE_SECONDS) if store.is_shared else None
    runner = BulkRunner(actions, ledger, lease, lambda action: _select(store, action), accounts.is_revoked)
    return Acting(store, actions, ledger, runner)


def brokers_of(
    addresses: Sequence[str], result_backends: Sequence[str], app: str | None, connection: str | None
) -> Brokers:
    """Return the brokers that are named on the command line.

    `addresses` and `result_backends` are URLs, or ``CONNECTION=URL``; `app` is the name of a Celery app, `connection`
    the one that the server is for. Raises `ConfigError` if they do not fit together, or one can't be used.
    """
    named = _by_connection("--broker", addresses)
    results = _by_connection("--result-backend", result_backends)
    if app is not None and None in named:
        raise ConfigError("--broker URL and -A both name the broker: give one of them, or --broker CONNECTION=URL")
    if strays := results.keys() - named.keys():
        label = min(f"--broker {name}=URL" if name else "--broker URL" for name in strays)
        raise ConfigError(f"--result-backend has no broker beside it: add {label}")
    if not named and app is None:
        return Brokers()
    from sluice_agent.server.actions import celery_client  # noqa: PLC0415 - Celery takes memory, and is rarely needed

    owner = None if connection is None else as_stored(connection)
    brokers: dict[str | None, Broker] = {
        name: celery_client.broker_at(url, results.get(name)) for name, url in named.items()
    }
    default = celery_client.broker_of_app(app) if app is not None else brokers.pop(None, None)
    return Brokers({name: broker for name, broker in brokers.items() if name is not None}, default, owner)


def _by_connection(option: str, values: Sequence[str]) -> dict[str | None, str]:
    """Return the URLs by connection, None for the one without."""
    urls: dict[str | None, str] = {}
    for value in values:
        before, separator, after = value.partition("=")
        name, url = (as_stored(before), after) if separator and "://" not in before else (None, value)
        if name in urls:
            raise ConfigError(f"{option} is given twice for {'the same connection' if name else 'no connection'}")
        urls[name] = url
    return urls


def _select(store: Store, action: BulkAction) -> list[bytes]:
    with store.reading() as reader:
        wanted = JobFilter.from_json(action.wanted).within_states(action.kind.states)
        return matching_jobs(reader, wanted, action.connections, store.moment)
