"""The recorder of what happens to jobs: it alone writes the state of a run, and knows what has been reported.

The other files learn of transitions, from events, replies or silence, and pass them on. The recorder checks whether
each may follow the one before, dates it, records it, and emits its event.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import (
    EARLIEST,
    JobEvents,
    JobExtensions,
    JobFacts,
    PlainJobEvents,
    RunDetails,
    job_id,
    plain_receipt,
    plain_start,
    plain_success,
    shared_by_kind,
)
from sluice_agent.lifecycle.identity import cached_scope_of, is_random_id, run_of, scope_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp, timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.event_dates import (
    MICROSECOND,
    date_of_refusal,
    date_of_waiting,
    record_agent_report,
    record_date,
)
from sluice_agent.monitor.tracker.parsing import EARLIEST_TIME
from sluice_agent.monitor.tracker.tasks import (
    ACTIVE,
    FIRST_VERSION,
    RETRYING,
    UNKNOWN,
    Process,
    Publication,
    Run,
    Task,
)
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

if TYPE_CHECKING:
    from typing_extensions import Unpack

_timestamp = lru_cache(128)(timestamp)
"""Return the timestamp of a time; a job's events name its creation and its start again."""

_LIVE = (None, ACTIVE, UNKNOWN)
_MAY_FOLLOW: Mapping[JobState, tuple[JobState | None, ...]] = {
    ACTIVE: (None,),
    UNKNOWN: _LIVE,
    # Its message may be given back after any end.
    JobState.QUEUED: (*_LIVE, JobState.COMPLETED, JobState.FAILED, RETRYING, JobState.CANCELLED),
    # A correction: the previous attempt was retried, and no event had reported the start of this one.
    JobState.COMPLETED: (*_LIVE, RETRYING),
    # A correction: a failure may follow a success, as when its result can't be stored.
    JobState.FAILED: (*_LIVE, JobState.COMPLETED),
    RETRYING: _LIVE,
    JobState.CANCELLED: _LIVE,
}
"""The legal walk of a run: the states that each may follow. Celery announces some ends twice, and some after another:
the first counts, but for the corrections. None: only its receipt is known."""

_ENDS = frozenset((JobState.COMPLETED, JobState.FAILED, RETRYING, JobState.CANCELLED))
_ATTEMPT_ENDS = frozenset((JobState.COMPLETED, JobState.FAILED, RETRYING))
"""The states in which a run ends by itself."""


@lru_cache(1024)
def _first_scope(connection_id: str, worker: Process) -> str:
    """Return the scope of the ids of a plain run of this process: it is its first one of the task."""
    return scope_of(connection_id, run_of(*worker, 0, False))


def _is_plain(task: Task, run: Run, worker: TrackedWorker, at: float) -> bool:
    """Return whether `run` is the only one of its task, `worker` has it, and the task has one message, a plain one.

    An event of it at `at` comes after the creation of the task.
    """
    created = task.created
    return (
        run.is_plain
        and run.worker is worker.process
        and task.waiting_version is FIRST_VERSION
        and task.pending is None
        and task.successor is None
        and task.has_only_root
        and (created is None or EARLIEST_TIME < created <= at)
    )


class Recorder:
    """Records transitions of runs, and that jobs wait, are refused or missing; emits them, unless an agent does."""

    def __init__(self, sink: Sink, workers: WorkerStore) -> None:
        self._sink = sink
        self._workers = workers

    # Runs

    def record(self, task: Task, run: Run, transition: Transition, at: float, **details: Unpack[RunDetails]) -> None:
        """Record that `run` enters a state at `at`, by its worker's clock, and emit that.

        Nothing is recorded where the state may not follow the present one.
        """
        state = transition.state
        if state in _ENDS:
            self._leave_worker(task, run, at)
            is_attempt = task.successor is not None and run.is_live and state in _ATTEMPT_ENDS
            if is_attempt and (successor := task.successor_of(run)) is not None:
                # It has published the next attempt, whether or not Celery knows of a `Retry`: the job has not ended.
                transition = transition._replace(state=RETRYING)
                at = min(at, successor.at) if successor.at >= (run.started or 0.0) else at
                details["eta"] = timestamp_from_iso(successor.eta) or details.get("eta") or _timestamp(at)
        if run.state not in _MAY_FOLLOW[state]:
            return
        self._enter(task, run, transition, at, details)
        if state is ACTIVE and run.replacement < task.replacement:
            self.end_replaced(task)

    def record_lost(self, task: Task, run: Run, at: float, reason: str) -> None:
        """Record `run`, if it is active, as `unknown` for `reason`: its end is not known, at least for now."""
        if run.state is not ACTIVE:
            return
        if task.published is not None and task.published.replacement > run.replacement:
            run.state = JobState.QUEUED  # it has replaced itself, and waits for a worker
        else:
            self.record(task, run, transitions.LOST_WHILE_RUNNING, at, reason=reason)

    def resume(self, task: Task, run: Run, worker: TrackedWorker) -> None:
        """Record that `run` goes on if it was active before, as far as was known: there is nothing new to report."""
        if run.state in (ACTIVE, UNKNOWN):
            run.state = ACTIVE
            worker.add_run(task.external_id, run)

    def suspend(self, task: Task, worker: TrackedWorker) -> None:
        """Record that `worker` runs the task no more: it has given it back, or cancelled it."""
        worker.remove_run(task.external_id)

    def end_replaced(self, task: Task) -> None:
        """End the last run of every task that another one has replaced under its id: no event reports that."""
        runs = task.runs
        if not runs:
            return
        replacement = task.replacement
        for run in runs:
            if run.replacement >= replacement or run.state not in (ACTIVE, UNKNOWN):
                continue
            if not any(other.replacement == run.replacement and other.attempt > run.attempt for other in runs):
                run.state = JobState.QUEUED
                self._remove_running(task, run)

    def forget_unconfirmed(self, task: Task) -> None:
        """Forget all unconfirmed runs of the task: the inspect replies about them are too old."""
        for run in task.forget_unconfirmed():
            self._remove_running(task, run)

    def forget(self, task: Task) -> None:
        """Remove the runs of a task that is forgotten from those that are under way."""
        for run in task.runs:
            if run.state is ACTIVE:
                self._remove_running(task, run)

    # Plain tasks: the commonest events, in fewer steps. Each of these methods records and emits what the
    # ordinary way would, or returns False, and nothing has changed then.

    def record_plain_receipt(self, task: Task, worker: TrackedWorker, name: str, root_id: Any, at: float) -> bool:
        """Record that `worker` has received a new task, of which nothing else is known, and that it has waited."""
        external_id, emit = task.external_id, worker.emit
        if (
            emit is None
            or at <= EARLIEST_TIME
            or not name
            or self._sink.is_ignored(name)
            or not is_random_id(external_id)
            or (root_id != external_id and not (type(root_id) is str and is_random_id(root_id)))
        ):
            return False
        task.name = name = intern(name)
        task.queue = worker.only_queue
        if root_id != external_id:
            task.root_id = root_id
        task.received = FIRST_VERSION
        task.record_wait(FIRST_VERSION, at)
        task.add_plain_run(worker.process, at)
        connection_id = self._sink.connection_id
        kind = shared_by_kind(connection_id, name, task.queue, None, None)
        head = f'{kind},"externalId":"{external_id}","attempt":1,"state":"'
        scope = cached_scope_of(connection_id, "")
        emit(plain_receipt(external_id, scope, head, f'"rootId":"{root_id}",', timestamp(at)))
        return True

    def record_plain_start(self, task: Task, worker: TrackedWorker, at: float) -> bool:
        """Record that `worker` has begun the run that it has received."""
        run, emit = task.last_run, worker.emit
        if (
            run is None
            or run.state is not None
            or not _is_plain(task, run, worker, at)
            or emit is None
            or at <= task.waiting_since + 2 * MICROSECOND
        ):
            return False
        run.state = ACTIVE
        run.started = run.reported_started = run.reported_at = at
        worker.add_run(task.external_id, run)
        emit(plain_start(*self._plain_text(task, run), _timestamp(at)))
        return True

    def record_plain_success(self, task: Task, worker: TrackedWorker, at: float, runtime: float) -> bool:
        """Record that the run that `worker` has begun has succeeded."""
        run, emit = task.last_run, worker.emit
        if (
            run is None
            or run.state is not ACTIVE
            or not _is_plain(task, run, worker, at)
            or emit is None
            or (started := run.reported_started) != run.started
            or at <= run.reported_at + 2 * MICROSECOND
        ):
            return False
        worker.on_run_ended(task.external_id, run, at)
        run.state = JobState.COMPLETED
        run.reported_at = at
        run.encoder = None
        emit(plain_success(*self._plain_text(task, run), timestamp(at), _timestamp(started), runtime))
        return True

    def _plain_text(self, task: Task, run: Run) -> tuple[str, str, str, str]:
        """Return what the events of a plain run share, as `plain_start` and `plain_success` take it."""
        external_id, connection_id, worker = task.external_id, self._sink.connection_id, run.worker
        created = f',"createdAt":"{_timestamp(task.created)}"' if task.created is not None else ""
        kind = shared_by_kind(connection_id, run.task_name, task.queue, worker.hostname, None)
        return (
            external_id,
            _first_scope(connection_id, worker),
            f'{kind},"externalId":"{external_id}","attempt":1{created},"state":"',
            f'"rootId":"{task.root_id or external_id}",',
        )

    # Jobs

    def record_waiting(self, task: Task, publication: Publication, worker: TrackedWorker | None = None) -> None:
        """Record that a task waits for its first run: once, and again for each replacement.

        Also for a later attempt that is published from outside. `worker` is the process that has received it, if any:
        its agent, if it has one, has emitted that.
        """
        version = publication.version
        if task.waiting_version >= version or self._sink.is_ignored(publication.name):
            return
        publication.at = at = date_of_waiting(task, version, publication.at)
        if task.created is not None:  # its first message created it
            task.created = min(task.created, at) if version.replacement else at
        task.record_wait(version, at)
        emit = self._sink.emit if worker is None else worker.emit
        if emit is None:
            return
        details: RunDetails = {"requeued": True} if version.replacement else {}
        run_name = f"+{version.replacement}" if version.replacement else ""
        events = self._job_events(task, name=publication.name, attempt=version.attempt, run_name=run_name)
        emit(events.event(publication.transition, _timestamp(at), **details, **publication.arguments))

    def record_refused(
        self, task: Task, worker: TrackedWorker, transition: Transition, at: float, **details: Unpack[RunDetails]
    ) -> None:
        """Record the end of a task that `worker` has refused to run."""
        task.is_refused = True
        emit = worker.emit
        if emit is None or self._sink.is_ignored(task.name):
            return
        events = self._job_events(task, attempt=task.attempt, worker=worker.hostname)
        emit(events.event(transition, _timestamp(date_of_refusal(task, at)), **details))

    def record_missing(self, task: Task, at: float, reason: str) -> None:
        """Record a task that waited as `unknown` for `reason`: its end is not known."""
        task.is_missing = True
        if self._sink.is_ignored(task.name):
            return
        task.waiting_since = at = date_of_refusal(task, at)
        events = self._job_events(task, attempt=task.attempt)
        self._sink.emit(events.event(transitions.LOST_WHILE_WAITING, _timestamp(at), reason=reason))

    def _leave_worker(self, task: Task, run: Run, at: float) -> None:
        """Remove `run`, which ends at `at`, from those of its worker. One known from replies has begun before that."""
        if run.is_unconfirmed and run.state is None and run.started is not None:
            self._workers.touch_process(run.worker)
            self.record(task, run, transitions.STARTED, run.started)
        self._remove_running(task, run, at)

    def _remove_running(self, task: Task, run: Run, at: float = 0.0) -> None:
        worker = self._workers.get(run.worker)
        if worker is not None:
            worker.on_run_ended(task.external_id, run, at)

    def _enter(self, task: Task, run: Run, transition: Transition, at: float, details: RunDetails) -> None:
        """Set the state of `run`, date that, and emit it, unless the agent of its worker does."""
        previous = ACTIVE if run.state is ACTIVE else None
        run.state = state = transition.state
        worker = self._workers.get(run.worker)
        if state is ACTIVE:
            run.started = at
            if worker is not None:
                worker.add_run(task.external_id, run)
        name = run.task_name or task.name
        is_agent_lost = transition is transitions.LOST_WHILE_RUNNING  # with its worker
        emit = self._sink.emit if worker is None or is_agent_lost else worker.emit
        if emit is None:
            record_agent_report(run, state, at)
        if emit is None or self._sink.is_ignored(name):
            return
        event_timestamp = _timestamp(record_date(task, run, state, at))
        started = _timestamp(run.reported_started) if run.reported_started else None
        events = self._run_events(task, run, name)
        emit(events.event(transition, event_timestamp, previous=previous, started=started, **details))

    def _run_events(self, task: Task, run: Run, name: str) -> JobEvents:
        """Return the encoder of the events of `run`: the one before, if nothing of what they share has changed."""
        facts = (
            name,
            run.attempt,
            run.is_attempt_known,
            run.receipt,
            run.redelivered,
            run.replacement,
            task.queue,
            task.created,
            task.root_id,
            task.parent_id,
            task.eta,
            task.expires,
            task.priority,
            task.publication,
        )
        if run.encoder is not None and run.encoder[0] == facts:
            events = run.encoder[1]
        else:
            events = self._job_events(
                task,
                name=name,
                attempt=run.attempt,
                is_attempt_known=run.is_attempt_known,
                worker=run.worker.hostname,
                run_name=run.name,
                redelivered=run.redelivered,
            )
        run.encoder = (facts, events) if run.state is ACTIVE else None
        return events

    def _job_events(
        self,
        task: Task,
        *,
        name: str | None = None,
        attempt: int,
        is_attempt_known: bool | None = None,
        worker: str | None = None,
        run_name: str = "",
        redelivered: bool = False,
    ) -> JobEvents:
        """Return the encoder of the events of one attempt."""
        connection_id, external_id = self._sink.connection_id, task.external_id
        created = _timestamp(task.created) if task.created else ""
        created = created if created > EARLIEST else ""
        run_name += task.publication
        is_known = task.is_attempt_known if is_attempt_known is None else is_attempt_known
        name = name or task.name
        root_id = task.root_id or external_id
        if (
            attempt == 1
            and is_known
            and not redelivered
            and task.has_only_root
            and is_random_id(external_id)
            and (root_id is external_id or is_random_id(root_id))
        ):  # as of most tasks: the same text at a third of the cost
            kind = shared_by_kind(connection_id, name, task.queue, worker, None)
            at = f',"createdAt":"{created}"' if created else ""
            head = f'{kind},"externalId":"{external_id}","attempt":1{at},"state":"'
            scope = cached_scope_of(connection_id, run_name)
            return PlainJobEvents(external_id, scope, head, f'"rootId":"{root_id}",', created, run_name)
        extensions: JobExtensions = {"rootId": job_id(root_id)}
        if task.parent_id:
            extensions["parentId"] = job_id(task.parent_id)
        if task.eta:
            extensions["eta"] = timestamp_from_iso(task.eta)
        if task.expires:
            extensions["expires"] = timestamp_from_iso(task.expires)
        if task.priority is not None:
            extensions["priority"] = task.priority
        if redelivered:
            extensions["redelivered"] = True
        facts = JobFacts(external_id, name, attempt, task.queue, worker, None, created, run_name, extensions, is_known)
        return JobEvents(connection_id, facts)
