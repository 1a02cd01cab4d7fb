"""Alerts put together: from the file that `serve` is given to the threads that evaluate and send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice_agent.errors import ConfigError
from sluice_agent.server.alerts.evaluation import KIND, Evaluation
from sluice_agent.server.alerts.evaluator import INTERVAL, Evaluator
from sluice_agent.server.alerts.file import AlertFile
from sluice_agent.server.alerts.rules import Rule
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store import Store
from sluice_agent.server.webhooks.ledger import Delivery, Ledger
from sluice_agent.server.webhooks.sender import Sender, UnsignedError
from sluice_agent.server.webhooks.signing import decode_secret, signed_headers

_LEASE = "alerts"
_LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """What `serve` is given: the rules, the keys of webhooks by the variables of their secrets, and the seconds between
    two evaluations."""

    rules: tuple[Rule, ...]
    keys: Mapping[str, bytes]
    interval: float = INTERVAL


@dataclass(frozen=True, slots=True)
class Alerting:
    """The threads."""

    evaluator: Evaluator
    sender: Sender

    def start(self) -> None:
        """Begin to evaluate, and send what an earlier process has left."""
        self.sender.start()
        self.evaluator.start()

    def close(self) -> None:
        """Stop both."""
        self.evaluator.close()
        self.sender.close()


def options_of(file: AlertFile, environment: Mapping[str, str], interval: float = INTERVAL) -> AlertOptions:
    """Return the options for a file of rules, with the secrets in `environment`. Raises `ConfigError` without one."""
    keys = {}
    for webhook in file.webhooks:
        problem = secret_problem(webhook.secret_env, environment)
        if problem is not None:
            raise ConfigError(f"webhook {webhook.name!r}: {problem}")
        keys[webhook.secret_env] = decode_secret(environment[webhook.secret_env])
    return AlertOptions(file.rules, keys, interval)


def alerting_of(store: Store, options: AlertOptions, past_sums: PastSums) -> Alerting:
    """Return what evaluates the rules over `store` and sends alerts."""
    ledger = Ledger(store.reading, store.writing, lambda: store.moment)
    sender = Sender(ledger, {KIND: _Signer(options.keys).sign}, lambda: store.moment, is_alone=not store.is_shared)
    lease = store.lease(_LEASE, _LEASE_SECONDS) if store.is_shared else None
    evaluation = Evaluation(store, options.rules, past_sums)
    return Alerting(Evaluator(evaluation, lease, sender.wake, options.interval), sender)


def secret_problem(variable: str, environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the secret in a variable, None if nothing is."""
    secret = environment.get(variable)
    if not secret:
        return f"{variable} is not set: it must hold a secret, as `sluice-agent alerts secret` prints it"
    try:
        decode_secret(secret)
    except ValueError as error:
        return f"{variable} holds no secret: {error}"
    return None


@dataclass(frozen=True, slots=True)
class _Signer:
    keys: Mapping[str, bytes]

    def sign(self, delivery: Delivery, timestamp: int, body: bytes) -> Mapping[str, str]:
        key = self.keys.get(delivery.content.secret)
        if key is None:
            raise UnsignedError(f"{delivery.content.secret} is not the secret of any webhook of this server")
        return signed_headers((key,), delivery.id, timestamp, body)
