"""The messages that call Celery tasks. No message that the broker may have is sent again: its outcome is awaited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.claim import Claim, TaskCall
from sluice_agent.log import warn_limited
from sluice_agent.server.actions.broker import BrokerAwayError, RejectedError, TaskMessage, UnconfirmedError
from sluice_agent.server.timestamps import to_datetime

_HIGHEST = 9  # priority of a message: those of runs go to 10


@dataclass(slots=True)
class Sent:
    """What has become of messages, by their runs: `confirmed` by the broker; `refused`, each for a reason, which may
    be gone later; `unsent`, as the broker is away, for the reason in `away`. Of all others it is unknown whether the
    broker has them."""

    confirmed: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    unsent: set[str] = field(default_factory=set)
    away: str | None = None


def send_tasks(connection: BrokerConnection, claims: Sequence[Claim]) -> Sent:
    """Send the messages of `claims`, which are calls of Celery tasks, as long as the broker can be reached.

    They have a connection of their own: one that was idle may have ended, and of what is sent over it nothing is known.
    """
    connection.close()
    sent = Sent()
    for claim in claims:
        if claim.call is None:
            continue
        try:
            connection.sender().send(_message(connection, claim, claim.call), claim.call.task_id, None)
        except RejectedError as error:
            warn_limited("jobs-task", "A run of the task %s waits: %s", claim.call.target.task, error)
            sent.refused[claim.run_id] = str(error)
        except UnconfirmedError as error:
            warn_limited("jobs-broker", "The run %s waits for events of its task: %s", claim.run_id, error)
            connection.close()
        except BrokerAwayError as error:
            warn_limited("jobs-broker", "Runs wait for the broker: %s", error)
            connection.close()
            sent.unsent.update(other.run_id for other in claims[claims.index(claim) :])
            sent.away = str(error)
            return sent
        else:
            sent.confirmed.add(claim.run_id)
    return sent


def _message(connection: BrokerConnection, claim: Claim, call: TaskCall) -> TaskMessage:
    broker = connection.broker
    return TaskMessage(
        call.target.task,
        call.arguments.args,
        call.arguments.kwargs,
        call.target.queue or broker.queue_of(call.target.task),
        priority=broker.queue_priority(min(claim.priority, _HIGHEST)),
        time_limit=call.timeout_secs,
        headers={"sluice_run_id": claim.run_id, "sluice_run_attempt": claim.attempt},
        expires=to_datetime(claim.until),
    )
