"""Rules of alerts for tests that run whole servers."""

from __future__ import annotations

from sluice_agent.server.alerts.assembly import AlertOptions, options_of
from sluice_agent.server.alerts.file import parse_alerts
from tests.support.webhook_receiver import SECRET, WebhookReceiver
from tests.unit.server.events import CONNECTION

_RULES = """
[webhook.ops]
url = "{url}"
secret_env = "OPS_SECRET"
private = true

[[rule]]
name = "mail is full"
connection = "{connection}"
when = "depth"
queue = "mail"
above = 10
webhook = "ops"
"""


def rules_text(receiver: WebhookReceiver) -> str:
    """Return a file with one rule: more than 10 jobs in the queue mail."""
    return _RULES.format(url=receiver.hook, connection=CONNECTION)


def alert_options(receiver: WebhookReceiver, interval: float = 15.0) -> AlertOptions:
    """Return the options with which `serve` evaluates that rule."""
    return options_of(parse_alerts(rules_text(receiver), "alerts.toml"), {"OPS_SECRET": SECRET}, interval)
