"""The thread of the engine. It never ends by itself: an error of the database or the broker is logged, and it goes on.

Each round reads whether there is anything to do, and writes only then. Between two rounds it waits for a commit of this
process, or for the time of a poll, in which another server may have made a run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event, Thread

from sluice_agent.jobs.engine import firings, moves, stale
from sluice_agent.jobs.engine.carrier import Carrier, CarrierAwayError
from sluice_agent.jobs.engine.claim import NO_TASKS, Claim, JobCache, claim_runs, has_ready_tasks
from sluice_agent.jobs.engine.leader import Leader
from sluice_agent.jobs.engine.look import look
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.engine.retention import Retention
from sluice_agent.jobs.engine.tasks import TaskEngine
from sluice_agent.jobs.runs import replays
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.store.takers import note_broker, note_takers
from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of

_SECOND = 1_000_000  # microseconds
_SHORTEST = 0.01  # seconds from one round to the next: one takes what came of several commits
_LONGEST = 0.05
_PER_WAITING = 0.0025  # for each run that waits for a slot of a worker: meanwhile none is without work
_STALL = 10 * _SECOND  # between two rounds: this process, or the machine, was asleep, and no worker could report
_PAUSE = 2.0  # seconds for which nothing is claimed after the broker was away
_CLOSE_SECONDS = 10.0


class Engine:
    """Works on the runs in `store`: requests by `carrier`, Celery tasks by `tasks`, None: there are none.

    `chance` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        store: JobsStore,
        carrier: Carrier,
        options: EngineOptions,
        chance: Callable[[], float] = random.random,
        tasks: TaskEngine | None = None,
    ) -> None:
        self._store = store
        self._carrier = carrier
        self._options = options
        self._chance = chance
        self._tasks = tasks
        self._leader = Leader(store, options.lease)
        self._jobs = JobCache()
        self._loses_from: int | None = None  # None: another process may have been the leader until now
        self._retention = Retention(store, options.keep)
        self._worked_at = 0
        self._slow_at = 0
        self._paused_until = 0
        self._until_next = _SHORTEST
        self._waiting_after = ""
        self._was_away = True
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="jobs engine", daemon=True)

    def start(self) -> None:
        """Start the thread, and deliver what an earlier process has left."""
        self._carrier.start()
        self._thread.start()

    def close(self) -> None:
        """End the thread after its round, then the carrier, and let another process be the leader."""
        self._stopped.set()
        self._store.changed.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._carrier.close()
        if self._tasks is not None:
            self._tasks.close()
        try:
            self._leader.release()
        except DATABASE_ERRORS as error:  # it ends by itself
            warn_limited("jobs-engine", "The lease of the jobs engine could not be released: %s", reason_of(error))

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._store.changed.clear()
            begun = time.monotonic()
            self._until_next = _SHORTEST
            if not self._round():
                self._store.changed.wait(self._options.poll)
            self._stopped.wait(max(begun + self._until_next - time.monotonic(), 0))

    def _round(self) -> bool:
        """Work once, and return whether there is more to do."""
        try:
            if self._leader.is_held():
                return self._work()
            self._loses_from = None
        except DATABASE_ERRORS as error:
            warn_limited("jobs-engine", "Runs wait for the database (%s)", reason_of(error))
            self._loses_from = None  # workers could not report meanwhile
        except Exception as error:  # noqa: BLE001 - the next round may succeed, and all runs wait for it
            log_failure(error, "A round of the jobs engine failed; the next one is in %g s", self._options.poll)
        return False

    def _work(self) -> bool:
        now = self._store.moment
        if self._loses_from is None or now < self._worked_at - _STALL:
            self._take_over(now)
        elif now - self._worked_at > _STALL:
            self._loses_from = now + round(self._options.grace * _SECOND)
        self._worked_at = now
        with self._store.reading() as reader:
            found = look(reader, now)
            places = round(self._carrier.slots * self._options.in_flight)
            has_places = found.under_way < places
            can_claim = found.has_ready and (has_places or has_ready_tasks(reader, self._jobs))
        has_more = self._move(now) if found.is_due else False
        has_more |= found.has_firing and self._fire(now)
        has_more |= found.has_replay and self._replay(now)
        has_events = self._tasks is not None and found.has_tasks and self._tasks.follow(now)
        if found.has_ready or found.under_way:
            self._carrier.watch(is_executing=found.executing > 0)
        if now >= self._slow_at:
            self._slow_at = now + round(self._options.rare * _SECOND)
            self._look_slowly(now, has_claims=found.under_way > 0)
            self._retention.delete_some(now)
            if self._tasks is not None and not has_events and self._may_lose(now):
                self._tasks.look(now)
        if now >= self._paused_until and self._tasks is not None and found.revokes and not self._tasks.revoke(now):
            self._pause(now)
        claimed = self._claim(places) if can_claim and now >= self._paused_until else 0
        waiting = found.under_way + claimed - self._carrier.slots
        self._until_next = min(max(waiting * _PER_WAITING, _SHORTEST), _LONGEST)
        return has_more or has_events

    def _take_over(self, now: int) -> None:
        """Begin to be the leader, or anew after the clock was set back: claims of the one before, whose messages are
        not sent any more, go back."""
        with self._store.writing() as writer:
            if self._carrier.outlives_process:
                stale.release_unpublished(writer, now)
            else:
                stale.release_all(writer, now)
            firings.set_back(writer, now)
        self._slow_at = self._paused_until = 0
        self._loses_from = now + round(self._options.grace * _SECOND)
        self._was_away = True  # for the process before, as far as is known
        if self._tasks is not None:
            self._tasks.take_over(now)

    def _move(self, now: int) -> bool:
        """Change the runs whose time has come, and return whether there are more."""
        counts = []
        for move in (moves.begin_due, moves.end_holds, moves.expire):
            with self._store.writing() as writer:
                counts.append(move(writer, now))
        return max(counts) == moves.MOST

    def _fire(self, now: int) -> bool:
        """Make the firings whose time has come, and return whether there are more."""
        with self._store.writing() as writer:
            return firings.fire(writer, now) == firings.MOST

    def _replay(self, now: int) -> bool:
        """Replay some dead letters, and return whether there may be more."""
        with self._store.writing() as writer:
            replays.go_on(writer, now)
        return True

    def _look_slowly(self, now: int, *, has_claims: bool) -> None:
        with self._store.writing() as writer:
            self._waiting_after = moves.look_at_waiting(writer, self._waiting_after, now)
            note_takers(writer, None if self._carrier.slots else self._options.queue)
            if not has_claims:
                return
            if self._may_lose(now):
                moves.lose(writer, now - round(self._options.silence * _SECOND), now, self._chance)
            overdue_since = now - round(self._options.overdue * _SECOND)
            if self._may_lose(overdue_since):
                moves.end_overdue(writer, overdue_since, now)
            stale.release_unpublished(writer, now)
            if not self._carrier.slots:
                stale.release_all(writer, now)
            elif self._carrier.is_empty():
                stale.release_lost(writer, now)

    def _may_lose(self, since: int) -> bool:
        """Return whether workers could report since then: what was not reported is lost."""
        return self._loses_from is not None and since >= self._loses_from

    def _pause(self, now: int) -> None:
        """Send nothing for a while: the broker is away."""
        self._paused_until = now + round(_PAUSE * _SECOND)

    def _claim(self, places: int) -> int:
        """Claim runs and send their messages. Return how many requests are claimed."""
        now = self._store.moment
        rules = NO_TASKS if self._tasks is None else self._tasks.rules
        with self._store.writing() as writer:
            if not self._leader.lock(writer):
                return 0
            claimed = claim_runs(writer, self._jobs, places, now, self._options.claim, rules)
            claims = [claim for claim in claimed if claim.call is None]
            calls = [claim for claim in claimed if claim.call is not None]
            if claims and not calls:
                self._store.commit_early(writer)  # without the claim its ticket starts nothing, and another one follows
        if self._tasks is not None and not self._tasks.send(calls, now):
            self._pause(now)
        if not claims:
            return 0
        confirmed, reason = self._send(claims, now)
        with self._store.writing() as writer:
            if reason is not None or self._was_away:
                note_broker(writer, reason)
            stale.note_published(writer, confirmed, now, self._store.moment)
            stale.release(writer, {claim.run_id for claim in claims} - confirmed, now, self._store.moment)
            self._store.commit_early(writer)  # a message more does no harm
        self._was_away = reason is not None
        return len(claims)

    def _send(self, claims: list[Claim], now: int) -> tuple[set[str], str | None]:
        """Send messages; return the runs of those that the broker has, and why it has none, if it is away."""
        confirmed, reason = set[str](), None
        try:
            confirmed = set(self._carrier.send(claims))
        except CarrierAwayError as error:
            warn_limited("jobs-broker", "Runs wait for the broker: %s", error)
            reason = str(error)
        if len(confirmed) < len(claims):
            self._pause(now)
        return confirmed, reason
