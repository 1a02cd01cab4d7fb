"""The engine's half of Celery tasks that are jobs: their messages, their outcomes by events, their deadlines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluice_agent.jobs.celery_target import TaskRules
from sluice_agent.jobs.engine import stale
from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.claim import Claim
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.engine.task_messages import send_tasks
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.store.takers import note_broker
from sluice_agent.jobs.task_events import revocations
from sluice_agent.jobs.task_events.follower import Follower
from sluice_agent.jobs.task_events.overdue import SilentWorkers, end_overdue
from sluice_agent.log import warn_limited
from sluice_agent.server.actions.broker import BrokerAwayError
from sluice_agent.server.store import Store

_SECOND = 1_000_000  # microseconds
_AGAIN = 10.0  # seconds after which a refused message is sent again: its queue may be there then


class TaskEngine:
    """Sends tasks over `connection`, None: no broker is known, and follows their events in `events`.

    `chance` returns a random number from 0 to 1. Only the thread of the engine uses it.
    """

    def __init__(
        self,
        store: JobsStore,
        events: Store,
        connection: BrokerConnection | None,
        options: EngineOptions,
        chance: Callable[[], float],
    ) -> None:
        self.rules = TaskRules(options.tasks, options.task_queues, connection is not None)
        self._store = store
        self._connection = connection
        self._slack = round(options.task_slack * _SECOND)
        self._chance = chance
        self._follower = Follower(store, events, chance)
        self._silent = SilentWorkers(store, events, round(options.silence * _SECOND), chance)

    def take_over(self, now: int) -> None:
        """Go on where another process has ended."""
        self._follower.forget()
        self._silent.begin(now)

    def follow(self, now: int) -> bool:
        """Take new events into account, and return whether there are more of them."""
        return self._follower.follow(now)

    def send(self, claims: Sequence[Claim], now: int) -> bool:
        """Send the messages of claims that were made at that moment, and return whether the broker was there."""
        if self._connection is None or not claims:
            return True
        sent = send_tasks(self._connection, claims)
        moment = self._store.moment
        with self._store.writing() as writer:
            if sent.away is not None or sent.confirmed:
                note_broker(writer, sent.away)
            stale.note_published(writer, sent.confirmed, now, moment)
            for run_id in sorted(sent.unsent):
                stale.release_task(writer, run_id, now, moment, moment)
            for run_id, reason in sorted(sent.refused.items()):
                stale.release_task(writer, run_id, now, moment + round(_AGAIN * _SECOND), moment, reason)
        return not sent.unsent

    def look(self, now: int) -> None:
        """End the attempts whose deadline has passed, or whose worker is silent. All events are taken into account."""
        with self._store.writing() as writer:
            end_overdue(writer, now - self._slack, now, self._chance)
        self._silent.end_lost(now)

    def revoke(self, now: int) -> bool:
        """Ask workers not to run what is not wanted any more, and return whether the broker was there."""
        if self._connection is None:
            return True
        with self._store.writing() as writer:
            task_ids = revocations.tasks_to_revoke(writer, now)
        if not task_ids:
            return True
        try:
            self._connection.broker.revoke(task_ids)
        except BrokerAwayError as error:
            warn_limited("jobs-broker", "Tasks are revoked when the broker is back: %s", error)
            return False
        with self._store.writing() as writer:
            revocations.note_revoked(writer, task_ids)
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
