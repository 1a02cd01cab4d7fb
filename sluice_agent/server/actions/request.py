"""One request to act, of the API or of a page: the jobs that it names, and what is done with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from pydantic_core import to_json
from sqlalchemy import Connection, select

from sluice_agent.model import to_valid_deep
from sluice_agent.server.access.audit import AuditEntry
from sluice_agent.server.access.principal import Principal
from sluice_agent.server.actions.acting import Senders, SentRetry, Subject
from sluice_agent.server.actions.assembly import Acting
from sluice_agent.server.actions.ledger import BulkAction, Kind, NewAction
from sluice_agent.server.actions.matching import matching_jobs
from sluice_agent.server.actions.retry import require_state
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.record.ids import job_uuids
from sluice_agent.server.record.record import Record
from sluice_agent.server.store.schema import job

AWAY = 503
"""The status of a refusal if the broker can't be reached."""


class Preview(NamedTuple):
    """What would be done with a job: its record, and for a retry the call that would be sent, with notes on it."""

    record: Record
    name: str
    queue: str | None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    @property
    def plain_args(self) -> Any:
        """The arguments as JSON can show them: a result backend may hold dates and others."""
        return _plain(self.args)

    @property
    def plain_kwargs(self) -> Any:
        """The same of the keyword arguments."""
        return _plain(self.kwargs)


class ActionRequest:
    """One request to act. `again` is whether a job is retried though its last retry has not ended."""

    def __init__(self, acting: Acting, principal: Principal, kind: Kind, *, again: bool) -> None:
        self._acting = acting
        self._principal = principal
        self._kind = kind
        self._again = again

    def retry_one(self, text: str) -> SentRetry:
        """Retry the job with this id, Sluice's or Celery's."""
        with Senders() as senders:
            return self._retry(known(self.resolve([text])[0]), senders)

    def revoke_one(self, text: str) -> Subject:
        """Revoke the job with this id, Sluice's or Celery's."""
        subject = self._acting.actions.prepare_revoke(known(self.resolve([text])[0]))
        self._acting.actions.revoke([subject], self._principal.who)
        return subject

    def act_on(self, ids: Sequence[str]) -> list[RefusedError | None]:
        """Act on several jobs; return for each the refusal, None if it was acted on.

        If the broker is away from the beginning, the whole request is refused.
        """
        act = self._retry_all if self._kind is Kind.RETRY else self._revoke_all
        outcomes = act(self.resolve(ids))
        refusals = [outcome for outcome in outcomes if outcome is not None]
        away = next((refusal for refusal in refusals if refusal.status == AWAY), None)
        if away is not None and len(refusals) == len(outcomes):
            raise away
        return outcomes

    def begin(self, wanted: JobFilter, action_id: str | None = None) -> str:
        """Begin to act on all jobs that a filter selects, as `action_id` if it is given, and return the action's id.

        An action that was begun under that id before is not begun again.
        """
        return self._begin(action_id or str(uuid4()), self.connections_of(wanted), wanted.to_json())

    def begin_with(self, ids: Sequence[str], connection_id: UUID, action_id: str) -> str:
        """Begin to act on several jobs of a connection. Raises `RefusedError` (404) if it does not have one of them."""
        connections = self.connections_of(JobFilter(connection_id=connection_id))
        uuids = [known(uuid) for uuid in self.resolve(ids, connections)]
        return self._begin(action_id, connections, {}, uuids)

    def preview(self, text: str) -> Preview:
        """Return what would be done with a job."""
        return self.preview_known(known(self.resolve([text])[0]))

    def preview_known(self, uuid: bytes) -> Preview:
        """Return what would be done with the job with Sluice's id `uuid`, which the sender may use."""
        if self._kind is Kind.REVOKE:
            record = self._acting.actions.prepare_revoke(uuid).job.record
            return Preview(record, record["name"], record["queue"])
        prepared = self._acting.actions.prepare_retry(uuid, again=self._again)
        message = prepared.retry.message
        record = prepared.subject.job.record
        return Preview(record, message.name, message.queue, message.args, message.kwargs, prepared.retry.notes)

    def matching(self, wanted: JobFilter) -> list[bytes]:
        """Return Sluice's ids of the jobs that a filter selects, of those that can be acted on, the oldest first."""
        connections = self.connections_of(wanted)
        with self._acting.store.reading() as reader:
            return matching_jobs(
                reader, wanted.within_states(self._kind.states), connections, self._acting.store.moment
            )

    def connections_of(self, wanted: JobFilter) -> list[int]:
        """Return the connections whose jobs the filter may select. Raises `RefusedError` for other states or none."""
        for state in wanted.states:
            require_state(state.value, self._kind.states, self._kind.past, subject="The filter selects jobs that are")
        with self._acting.store.reading() as reader:
            connections = self._connections(reader)
        wanted_id = str(wanted.connection_id) if wanted.connection_id else None
        numbers = [number for id_, number in connections.items() if wanted_id in (None, id_)]
        if wanted_id is not None and not numbers:
            raise RefusedError(404, "Connection not found.")
        return numbers

    def resolve(self, ids: Sequence[str], only: Collection[int] | None = None) -> list[bytes | None]:
        """Return Sluice's ids of the jobs with these ids, Sluice's or Celery's; None for one that does not exist.

        `only` are numbers of connections to which the jobs must belong.
        """
        with self._acting.store.reading() as reader:
            usable = self._connections(reader)
            connections = {id_: number for id_, number in usable.items() if only is None or number in only}
            candidates = {text: job_uuids(text, connections) for text in ids}
            every = {uuid for uuids in candidates.values() for uuid in uuids}
            rows = reader.execute(select(job.c.uuid, job.c.connection).where(job.c.uuid.in_(every)))
            existing = {bytes(row.uuid) for row in rows if row.connection in connections.values()}
        return [next((uuid for uuid in candidates[text] if uuid in existing), None) for text in ids]

    def _begin(
        self, action_id: str, connections: Sequence[int], wanted: Mapping[str, Any], jobs: Sequence[bytes] | None = None
    ) -> str:
        who = self._principal.who
        action = NewAction(action_id, self._kind, who, connections, wanted, self._again, jobs)
        if self._acting.ledger.create(action):
            self._acting.actions.note(AuditEntry(who, f"bulk {self._kind.value}", action_id, detail=action.as_json))
            self._acting.runner.wake()
        return action_id

    def _retry_all(self, uuids: Sequence[bytes | None]) -> list[RefusedError | None]:
        outcomes: list[RefusedError | None] = []
        away: RefusedError | None = None  # then no further job is tried: each would wait for the broker
        with Senders() as senders:
            for uuid in uuids:
                try:
                    if away is not None:
                        raise away
                    self._retry(known(uuid), senders)
                    outcomes.append(None)
                except RefusedError as refusal:
                    outcomes.append(refusal)
                    away = refusal if refusal.status == AWAY else away
        return outcomes

    def _revoke_all(self, uuids: Sequence[bytes | None]) -> list[RefusedError | None]:
        outcomes: list[RefusedError | None] = [None] * len(uuids)
        groups: dict[int, list[tuple[int, Subject]]] = {}
        for index, uuid in enumerate(uuids):
            try:
                subject = self._acting.actions.prepare_revoke(known(uuid))
            except RefusedError as refusal:
                outcomes[index] = refusal
            else:
                groups.setdefault(id(subject.broker), []).append((index, subject))
        for group in groups.values():
            try:
                self._acting.actions.revoke([subject for _, subject in group], self._principal.who)
            except RefusedError as refusal:
                for index, _ in group:
                    outcomes[index] = refusal
        return outcomes

    def _retry(self, uuid: bytes, senders: Senders) -> SentRetry:
        return self._acting.actions.retry(uuid, self._principal.who, senders, again=self._again)

    def _connections(self, reader: Connection) -> dict[str, int]:
        """Return the numbers of the connections that the sender may use, by their ids."""
        return known_connections(reader, self._principal.connections)


def known(uuid: bytes | None) -> bytes:
    """Return the id of a job. Raises `RefusedError` (404) for None."""
    if uuid is None:
        raise RefusedError(404, "Job not found.")
    return uuid


def find_action(acting: Acting, action_id: str, principal: Principal) -> BulkAction:
    """Return a bulk action that `principal` may see. Raises `RefusedError` (404) if there is none."""
    found = acting.ledger.find(action_id)
    if found is None or not all(map(principal.may_use, found.connections)):
        raise RefusedError(404, "Bulk action not found.")
    return found


def cancel_action(acting: Acting, action: BulkAction, principal: Principal) -> None:
    """End a bulk action: what has been sent stays sent. Raises `RefusedError` (400) if it has ended."""
    if not acting.ledger.cancel(action.id):
        raise RefusedError(400, f"The bulk action is {action.state.value}: it can't be cancelled.")
    acting.actions.note(AuditEntry(principal.who, "bulk cancel", action.id))


def _plain(value: Any) -> Any:
    try:
        return json.loads(to_json(to_valid_deep(value)))
    except (TypeError, ValueError, RecursionError):
        return str(type(value).__name__)
