"""One request to act: the jobs that it names, what is done with them, and the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, select

from sluice_agent.model import encode
from sluice_agent.server.access.audit import AuditEntry
from sluice_agent.server.access.principal import Principal
from sluice_agent.server.actions.acting import Senders, SentRetry, Subject
from sluice_agent.server.actions.assembly import Acting
from sluice_agent.server.actions.ledger import Kind, Ledger
from sluice_agent.server.actions.matching import matching_jobs
from sluice_agent.server.actions.retry import require_state
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.record.ids import job_id, job_uuids
from sluice_agent.server.routes.action_responses import (
    BulkActionAnswer,
    BulkPreview,
    Failed,
    Results,
    RetriedAs,
    RetryAnswer,
    RetryPreview,
    RevokeAnswer,
    RevokePreview,
    Succeeded,
)
from sluice_agent.server.store.schema import job

_SHOWN = 20  # jobs that the dry run of a filter shows
_AWAY = 503
_ASKED = "Workers were asked not to run the job: it is cancelled when one of them drops it. A job that runs goes on."


class ActionRequest:
    """One request to act. `again` is whether a job is retried though its last retry has not ended."""

    def __init__(self, acting: Acting, principal: Principal, kind: Kind, *, again: bool) -> None:
        self._acting = acting
        self._principal = principal
        self._kind = kind
        self._again = again

    def act_on_one(self, text: str) -> BaseModel:
        """Act on the job with this id, Sluice's or Celery's."""
        uuid = self._resolve([text])[0]
        if self._kind is Kind.REVOKE:
            subject = self._acting.actions.prepare_revoke(_known(uuid))
            self._acting.actions.revoke([subject], self._principal.who)
            return RevokeAnswer(id=subject.job.record["id"], message=_ASKED)
        with Senders() as senders:
            return _retry_answer(self._retry(_known(uuid), senders))

    def preview_one(self, text: str) -> BaseModel:
        """Show what would be done with a job."""
        return self._preview(_known(self._resolve([text])[0]))

    def act_on(self, ids: Sequence[str]) -> BaseModel:
        """Act on several jobs. If the broker is away from the beginning, the whole request is refused."""
        act = self._retry_all if self._kind is Kind.RETRY else self._revoke_all
        outcomes = act(self._resolve(ids))
        refusals = [outcome for outcome in outcomes if outcome is not None]
        away = next((refusal for refusal in refusals if refusal.status == _AWAY), None)
        if away is not None and len(refusals) == len(outcomes):
            raise away
        state = "retrying" if self._kind is Kind.RETRY else "cancelled"
        return Results(
            results=[
                Succeeded(id=text, state=state) if outcome is None else Failed(id=text, error=outcome.message)
                for text, outcome in zip(ids, outcomes, strict=True)
            ]
        )

    def preview(self, ids: Sequence[str]) -> BaseModel:
        """Show what would be done with several jobs."""
        uuids = self._resolve(ids)
        jobs = [self._preview_or_failure(text, uuid) for text, uuid in zip(ids, uuids, strict=True)]
        return BulkPreview(total=len(ids), jobs=jobs)

    def begin(self, wanted: JobFilter) -> BaseModel:
        """Begin to act on all jobs that a filter selects."""
        connections = self._check_filter(wanted)
        filter_json = wanted.to_json()
        who = self._principal.who
        action = self._acting.ledger.create(self._kind, who, connections, filter_json, again=self._again)
        self._acting.actions.note(AuditEntry(who, f"bulk {self._kind.value}", action, detail=json.dumps(filter_json)))
        self._acting.runner.wake()
        return progress_of(self._acting.ledger, action)

    def preview_filter(self, wanted: JobFilter) -> BaseModel:
        """Show what would be done with the first jobs that a filter selects."""
        connections = self._check_filter(wanted)
        with self._acting.store.reading() as reader:
            now = self._acting.store.moment
            uuids = matching_jobs(reader, wanted.within_states(self._kind.states), connections, now)
        shown = [self._preview_or_failure(str(UUID(bytes=uuid)), uuid) for uuid in uuids[:_SHOWN]]
        return BulkPreview(total=len(uuids), jobs=shown)

    def _check_filter(self, wanted: JobFilter) -> list[int]:
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

    def _retry_all(self, uuids: Sequence[bytes | None]) -> list[RefusedError | None]:
        outcomes: list[RefusedError | None] = []
        away: RefusedError | None = None  # then no further job is tried: each would wait for the broker
        with Senders() as senders:
            for uuid in uuids:
                try:
                    if away is not None:
                        raise away
                    self._retry(_known(uuid), senders)
                    outcomes.append(None)
                except RefusedError as refusal:
                    outcomes.append(refusal)
                    away = refusal if refusal.status == _AWAY else away
        return outcomes

    def _revoke_all(self, uuids: Sequence[bytes | None]) -> list[RefusedError | None]:
        outcomes: list[RefusedError | None] = [None] * len(uuids)
        groups: dict[int, list[tuple[int, Subject]]] = {}
        for index, uuid in enumerate(uuids):
            try:
                subject = self._acting.actions.prepare_revoke(_known(uuid))
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

    def _preview_or_failure(self, text: str, uuid: bytes | None) -> RetryPreview | RevokePreview | Failed:
        try:
            return self._preview(_known(uuid))
        except RefusedError as refusal:
            return Failed(id=text, error=refusal.message)

    def _preview(self, uuid: bytes) -> RetryPreview | RevokePreview:
        if self._kind is Kind.REVOKE:
            record = self._acting.actions.prepare_revoke(uuid).job.record
            return RevokePreview(id=record["id"], name=record["name"], queue=record["queue"], state=record["state"])
        prepared = self._acting.actions.prepare_retry(uuid, again=self._again)
        message = prepared.retry.message
        return RetryPreview(
            id=prepared.subject.job.record["id"],
            name=message.name,
            queue=message.queue,
            args=_plain(message.args),
            kwargs=_plain(message.kwargs),
            notes=list(prepared.retry.notes),
        )

    def _resolve(self, ids: Sequence[str]) -> list[bytes | None]:
        """Return Sluice's ids of the jobs with these ids, Sluice's or Celery's; None for one that does not exist."""
        with self._acting.store.reading() as reader:
            connections = self._connections(reader)
            candidates = {text: job_uuids(text, connections) for text in ids}
            every = {uuid for uuids in candidates.values() for uuid in uuids}
            rows = reader.execute(select(job.c.uuid, job.c.connection).where(job.c.uuid.in_(every)))
            known = {bytes(row.uuid) for row in rows if row.connection in connections.values()}
        return [next((uuid for uuid in candidates[text] if uuid in known), None) for text in ids]

    def _connections(self, reader: Connection) -> dict[str, int]:
        """Return the numbers of the connections that the sender may use, by their ids."""
        return known_connections(reader, self._principal.connections)


def _known(uuid: bytes | None) -> bytes:
    if uuid is None:
        raise RefusedError(404, "Job not found.")
    return uuid


def _retry_answer(sent: SentRetry) -> RetryAnswer:
    record = sent.prepared.subject.job.record
    return RetryAnswer(
        id=record["id"],
        message=" ".join([f"The job was sent again as {sent.task_id}.", *sent.prepared.retry.notes]),
        retried_as=RetriedAs(id=job_id(record["connectionId"], sent.task_id), external_id=sent.task_id),
    )


def progress_of(ledger: Ledger, action: str) -> BulkActionAnswer:
    """Return a bulk action, which exists, with its progress."""
    return BulkActionAnswer.model_validate(ledger.progress(action))


def _plain(value: Any) -> Any:
    """Return `value` as JSON can show it: a result backend may hold dates and others."""
    try:
        return json.loads(encode(value))
    except (TypeError, ValueError):
        return str(type(value).__name__)
