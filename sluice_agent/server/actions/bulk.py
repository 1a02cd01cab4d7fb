"""The thread that runs bulk actions: one after the other, in one process of all that share the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from sluice_agent.server.access.audit import Action
from sluice_agent.server.actions.acting import Actions, Senders, Subject, new_task_id
from sluice_agent.server.actions.ledger import ActionState, BulkAction, Item, ItemState, Kind, Ledger
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.store.lease import Lease

_BATCH = 100  # jobs that are read, or revoked, at a time
_CLOSE_SECONDS = 5.0
_UNAVAILABLE = 503  # the broker is away: the job is taken up again
_UNCONFIRMED = 502
_FAILED = "The server failed at this job; its log has the reason."
_log = logging.getLogger("sluice_agent.server.actions")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two looks for actions of other processes, and of the first and longest pause if the broker is
    away."""

    poll: float = 2.0
    first_pause: float = 1.0
    longest_pause: float = 30.0


class _InterruptedError(Exception):
    """The server stops, another process has the lease, or the action was cancelled."""


class BulkRunner:
    """Runs the actions in `ledger`. `select` returns Sluice's ids of the jobs of a new action.

    `lease` elects one process of several; None: no other process uses the database. An action is cancelled if the key
    or session that began it `is_revoked`.
    """

    def __init__(
        self,
        actions: Actions,
        ledger: Ledger,
        lease: Lease | None,
        select: Callable[[BulkAction], Sequence[bytes]],
        is_revoked: Callable[[str], bool],
        pace: Pace | None = None,
    ) -> None:
        self._actions = actions
        self._ledger = ledger
        self._lease = lease
        self._select = select
        self._is_revoked = is_revoked
        self._pace = pace or Pace()
        self._wake = Event()
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="bulk actions", daemon=True)

    def start(self) -> None:
        """Start the thread. It takes up what an earlier process has left."""
        self._thread.start()

    def wake(self) -> None:
        """Look for a new action now."""
        self._wake.set()

    def close(self) -> None:
        """End the thread after the job that it is at. The rest is taken up by the next process.

        A broker that does not answer is not waited for: that job is settled by the next process too.
        """
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._ledger.next_open() is not None and self._is_elected():
                    self._run_all()
            except Exception:  # noqa: BLE001 - the database may be away for a while
                _log.exception("A bulk action failed; it is taken up again")
            self._wake.wait(self._pace.poll)
            self._wake.clear()

    def _run_all(self) -> None:
        try:
            while (action := self._ledger.next_open()) is not None:
                self._run_action(action)
        except _InterruptedError:
            return
        finally:
            if self._lease is not None:
                self._lease.release()

    def _is_elected(self) -> bool:
        return self._lease is None or self._lease.is_held()

    def _run_action(self, action: BulkAction) -> None:
        if action.state is ActionState.COLLECTING and not self._ledger.start(action.id, self._select(action)):
            return  # cancelled
        for item in self._ledger.items(action.id, ItemState.SENDING, _BATCH):
            self._settle_interrupted(action, item)
        with Senders() as senders:
            while items := self._ledger.items(action.id, ItemState.PENDING, _BATCH):
                if action.kind is Kind.REVOKE:
                    self._persist(action, lambda items=items: self._revoke(action, items))  # type: ignore[misc]
                    continue
                for item in items:
                    self._persist(action, lambda item=item: self._retry(action, item, senders))  # type: ignore[misc]
        self._ledger.finish(action.id)

    def _settle_interrupted(self, action: BulkAction, item: Item) -> None:
        """Settle a job that an earlier process was about to send: it is never sent again."""
        if action.kind is Kind.REVOKE:
            self._ledger.settle(action.id, item.number, ItemState.PENDING)  # a second request changes nothing
        elif item.task_id is not None and self._actions.link(item.job, item.task_id):
            self._ledger.settle(action.id, item.number, ItemState.SUCCEEDED)
        else:
            error = f"The server was stopped while the job was sent again as {item.task_id}: look for that id."
            self._ledger.settle(action.id, item.number, ItemState.UNCONFIRMED, error)

    def _persist(self, action: BulkAction, step: Callable[[], None]) -> None:
        """Take a step, again and again while the broker is away."""
        pause = self._pace.first_pause
        while True:
            self._check_on(action)
            try:
                step()
            except RefusedError as refusal:
                if refusal.status != _UNAVAILABLE:
                    raise
                self._ledger.wait(action.id, refusal.message)
                current = self._ledger.find(action.id)
                if current is None or not current.state.is_open:
                    return
                self._stopped.wait(pause)
                pause = min(2 * pause, self._pace.longest_pause)
            else:
                if pause != self._pace.first_pause:
                    self._ledger.wait(action.id, None)
                return

    def _check_on(self, action: BulkAction) -> None:
        """Raise `_InterruptedError` if this process must stop, or the action."""
        if self._stopped.is_set() or not self._is_elected():
            raise _InterruptedError
        if self._is_revoked(action.who) and self._ledger.cancel(action.id):
            self._actions.note(Action("server", "bulk cancel", action.id, detail=f"the {action.who} was revoked"))
            raise _InterruptedError

    def _retry(self, action: BulkAction, item: Item, senders: Senders) -> None:
        def decide_id() -> str:
            task_id = new_task_id()
            if not self._ledger.claim(action.id, item.number, task_id):
                raise _ClaimedError
            return task_id

        try:
            self._actions.retry(item.job, action.who, senders, again=action.again, decide_id=decide_id)
        except _ClaimedError:
            return
        except RefusedError as refusal:
            self._settle_refused(action, item, refusal)
        except SQLAlchemyError:
            raise
        except Exception:  # noqa: BLE001 - one job must not hold up all others for ever
            _log.exception("The job %d of the bulk action %s failed", item.number, action.id)
            self._ledger.settle(action.id, item.number, ItemState.UNCONFIRMED, _FAILED)
        else:
            self._ledger.settle(action.id, item.number, ItemState.SUCCEEDED)

    def _settle_refused(self, action: BulkAction, item: Item, refusal: RefusedError) -> None:
        if refusal.status == _UNAVAILABLE:
            self._ledger.settle(action.id, item.number, ItemState.PENDING)
            raise refusal
        state = ItemState.UNCONFIRMED if refusal.status == _UNCONFIRMED else ItemState.FAILED
        self._ledger.settle(action.id, item.number, state, refusal.message)

    def _revoke(self, action: BulkAction, items: Sequence[Item]) -> None:
        subjects: dict[int, list[tuple[Item, Subject]]] = {}
        for item in items:
            try:
                subject = self._actions.prepare_revoke(item.job)
            except RefusedError as refusal:
                self._ledger.settle(action.id, item.number, ItemState.FAILED, refusal.message)
            else:
                subjects.setdefault(id(subject.broker), []).append((item, subject))
        for group in subjects.values():
            self._actions.revoke([subject for _, subject in group], action.who)
            for item, _ in group:
                self._ledger.settle(action.id, item.number, ItemState.SUCCEEDED)


class _ClaimedError(Exception):
    """The job is not pending any more: the action was cancelled."""
