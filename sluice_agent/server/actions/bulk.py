"""The thread that runs bulk actions: one at a time, in one process of all that share the database.

An action that can't go on, because its broker is away, is postponed: the next one runs meanwhile. Actions take turns of
a hundred jobs, so that a single job does not wait for a hundred thousand.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event, Thread

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.access.audit import AuditEntry
from sluice_agent.server.actions.acting import Actions, RetryOpenError, Senders, Subject, new_task_id
from sluice_agent.server.actions.ledger import ActionState, BulkAction, Item, ItemState, Kind, Ledger
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.store import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.lease import Lease

_BATCH = 100  # jobs that are read, or revoked, at a time
_CLOSE_SECONDS = 5.0
_UNAVAILABLE = 503  # the broker is away: the action is postponed
_UNCONFIRMED = 502
_FAILED = "The server failed at this job; its log has the reason."
_ACTION_FAILED = "The server failed at this action; its log has the reason."
_log = logging.getLogger("sluice_agent.server.actions")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two looks for actions of other processes, and of the first and longest pause if the broker is
    away."""

    poll: float = 2.0
    first_pause: float = 1.0
    longest_pause: float = 30.0


@dataclass(frozen=True, slots=True)
class _Postponed:
    """An action that can't go on: the pause in seconds, and the monotonic time of its end."""

    pause: float
    until: float


class _InterruptedError(Exception):
    """The server stops, or another process has the lease."""


class _CancelledError(Exception):
    """The action was cancelled."""


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
        self._postponed: dict[str, _Postponed] = {}
        self._had_turn: set[str] = set()  # since all others that are due had one
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
                if self._next_due() is not None and self._is_elected():
                    self._run_all()
            except DATABASE_ERRORS as error:
                warn_limited("bulk actions", "Bulk actions wait for the database (%s)", reason_of(error))
            except Exception as error:  # noqa: BLE001 - the next actions may succeed
                log_failure(error, "Bulk actions failed; they are taken up again")
            self._wake.wait(self._seconds_to_next_look())
            self._wake.clear()

    def _next_due(self) -> BulkAction | None:
        """Return the oldest action that is not finished, not postponed beyond now, and has not had its turn."""
        now = time.monotonic()
        postponed = [key for key, postponed in self._postponed.items() if postponed.until > now]
        action = self._ledger.next_open([*postponed, *self._had_turn])
        if action is None and self._had_turn:
            self._had_turn.clear()
            action = self._ledger.next_open(postponed)
        return action

    def _is_turn_over(self, action: BulkAction) -> bool:
        """Return whether another action is due after a batch of this one."""
        self._had_turn.add(action.id)
        following = self._next_due()
        return following is not None and following.id != action.id

    def _seconds_to_next_look(self) -> float:
        now = time.monotonic()
        pauses = [postponed.until - now for postponed in self._postponed.values() if postponed.until > now]
        return min([self._pace.poll, *pauses])

    def _run_all(self) -> None:
        try:
            while (action := self._next_due()) is not None:
                self._take_up(action)
        except _InterruptedError:
            return
        finally:
            if self._lease is not None:
                self._lease.release()

    def _is_elected(self) -> bool:
        return self._lease is None or self._lease.is_held()

    def _take_up(self, action: BulkAction) -> None:
        """Run an action to its end, or as far as it goes."""
        try:
            self._run_action(action)
        except _CancelledError:
            pass
        except RefusedError as refusal:
            self._postpone(action, refusal.message)
            return
        except (_InterruptedError, *DATABASE_ERRORS):
            raise
        except Exception as error:  # noqa: BLE001 - one action must not hold up all others for ever
            log_failure(error, "The bulk action %s failed; it is taken up again", action.id)
            self._postpone(action, _ACTION_FAILED)
            return
        self._postponed.pop(action.id, None)

    def _postpone(self, action: BulkAction, reason: str) -> None:
        last = self._postponed.get(action.id)
        pause = self._pace.first_pause if last is None else min(2 * last.pause, self._pace.longest_pause)
        self._postponed[action.id] = _Postponed(pause, time.monotonic() + pause)
        self._ledger.wait(action.id, reason)

    def _run_action(self, action: BulkAction) -> None:
        if action.state is ActionState.COLLECTING and not self._ledger.start(action.id, self._select(action)):
            return  # cancelled
        for item in self._ledger.items(action.id, ItemState.SENDING, _BATCH):
            self._settle_interrupted(action, item)
        with Senders() as senders:
            while items := self._ledger.items(action.id, ItemState.PENDING, _BATCH):
                if action.kind is Kind.REVOKE:
                    self._check_on(action)
                    self._revoke(action, items)
                    action = self._going_on(action)
                for item in items if action.kind is Kind.RETRY else ():
                    self._check_on(action)
                    self._retry(action, item, senders)
                    action = self._going_on(action)
                if len(items) == _BATCH and self._is_turn_over(action):
                    return
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

    def _going_on(self, action: BulkAction) -> BulkAction:
        """Return `action` after a step that was done: it waits for nothing."""
        if action.waiting_for is None:
            return action
        self._postponed.pop(action.id, None)
        self._ledger.wait(action.id, None)
        return replace(action, waiting_for=None)

    def _check_on(self, action: BulkAction) -> None:
        """Raise `_InterruptedError` if this process must stop, `_CancelledError` if the action must."""
        if self._stopped.is_set() or not self._is_elected():
            raise _InterruptedError
        if self._is_revoked(action.who) and self._ledger.cancel(action.id):
            self._actions.note(AuditEntry("server", "bulk cancel", action.id, detail=f"the {action.who} was revoked"))
            raise _CancelledError

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
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - one job must not hold up all others for ever
            log_failure(error, "The job %d of the bulk action %s failed", item.number, action.id)
            self._ledger.settle(action.id, item.number, ItemState.UNCONFIRMED, _FAILED)
        else:
            self._ledger.settle(action.id, item.number, ItemState.SUCCEEDED)

    def _settle_refused(self, action: BulkAction, item: Item, refusal: RefusedError) -> None:
        if refusal.status == _UNAVAILABLE:
            self._ledger.settle(action.id, item.number, ItemState.PENDING)
            raise refusal
        state = ItemState.UNCONFIRMED if refusal.status == _UNCONFIRMED else ItemState.FAILED
        reason = refusal.reason if isinstance(refusal, RetryOpenError) else refusal.message
        self._ledger.settle(action.id, item.number, state, reason)

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
