"""Worker events in our model: online, a heartbeat, busy and idle, offline, whether a worker says so or falls silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any

from sluice_agent.encoding import worker_event
from sluice_agent.model import WorkerState
from sluice_agent.monitor.agent_discovery import AgentDiscovery
from sluice_agent.monitor.parsing import Event, as_count, as_seconds, as_time, event_time, get_text
from sluice_agent.monitor.task_store import Process, Run
from sluice_agent.monitor.timers import Timers
from sluice_agent.monitor.tracked_worker import USUAL_FREQUENCY, TrackedWorker, UnreportedEnds

_DEAFNESS = 5.0  # seconds without a look at the clock, after which the silence may have been ours
_FAREWELL = 15.0  # seconds after `worker-offline` in which the last word on a task may come
_KEPT = 60.0  # seconds for which a worker that has gone is known
_IDLE = 1.0  # seconds in which two words of busy, or of idle, are one
_WORDLESS = 4.0  # seconds in which nothing ran, after which no word comes on what ran before
_POOLS = {"thread": "threads"}  # a pool's module, where it is not what the command line calls it
_NO_WORD = "it ended, and no event said how: Celery says nothing of a task that raises Ignore"
_WHILE_DEAF = "it ended while the monitor had lost its connection"

OnLostRun = Callable[[str, Run, float, str], None]


class WorkerEvents:
    """Tells what the workers do. `on_lost_run` hears of a run whose worker has gone, or that ended without a word.

    It hears when the run was last known to go on: should its verdict come after all, that is later, and corrects it.
    What happens to the jobs of a worker is held for `agent_seconds` while it is not known whether it has an agent.
    """

    def __init__(
        self,
        *,
        connection_id: str,
        emit: Callable[[bytes], None],
        timers: Timers,
        heartbeat_interval: float,
        on_lost_run: OnLostRun,
        agent_seconds: float = 0.0,
    ) -> None:
        self._connection_id = connection_id
        self._emit = emit
        self._timers = timers
        self._interval = heartbeat_interval
        self._on_lost_run = on_lost_run
        self._agent_discovery = AgentDiscovery(
            connection_id=connection_id, emit=emit, timers=timers, agent_seconds=agent_seconds
        )
        self._reported_queues: frozenset[str] = frozenset()
        self._views: dict[tuple[str, int], TrackedWorker] = {}
        self._named: dict[str, TrackedWorker] = {}
        self._queues_of_agents: set[str] = set()
        self._complete_since = 0.0
        self._looked = 0.0
        self._is_standby = False
        self._due_for_discovery = False
        self.handlers: Mapping[str, Callable[[TrackedWorker, Event], None]] = {
            "worker-online": self._online,
            "worker-heartbeat": self._heartbeat,
            "worker-offline": self._offline,
        }

    def __len__(self) -> int:
        return len(self._views)

    def touch(self, event: Event) -> TrackedWorker:
        """The worker process that sent `event`."""
        hostname, pid = event.get("hostname"), event.get("pid")
        view = self._views.get((hostname, pid)) if isinstance(hostname, str) and isinstance(pid, int) else None
        if view is None:
            process = Process(intern(get_text(event, "hostname") or "unknown"), as_count(event.get("pid")) or 0)
            now = self._timers.now
            view = self._views.setdefault(process, TrackedWorker(process, last_seen=now, last_timestamp=now))
            self._named.setdefault(process.hostname, view)
        view.last_seen = self._timers.now
        view.is_eventless = view.is_eventless and "type" not in event
        view.last_timestamp = as_time(event.get("timestamp"), self._timers.now) or view.last_timestamp
        return view

    def touch_run(self, run: Run) -> TrackedWorker:
        """The worker process of `run`."""
        return self.touch(run.worker._asdict())

    def named(self, hostname: str) -> TrackedWorker | None:
        """The worker of this name that was heard of last."""
        return self._named.get(hostname)

    def online(self) -> Mapping[str, TrackedWorker]:
        """The workers that are online, by their names."""
        return {name: view for name, view in self._named.items() if view.is_online}

    def due_for_inspection(self) -> list[str]:
        """The names of those that are new or have returned since this was called last, or that have not answered."""
        now = self._timers.now
        candidates = {id(view): view for view in self._named.values() if view.is_there}
        candidates |= {id(view): view for view in self._views.values() if view.has_agent is None}
        found = [view for view in candidates.values() if view.is_to_be_asked(now)]
        for view in found:
            view.is_asked, view.asked_at = True, now
            view.times_asked += 1
        return [view.hostname for view in found]

    def ask_again(self) -> None:
        """Have all of them asked once more, and whoever else there is: see `due_for_discovery`."""
        self._due_for_discovery = True
        for view in self._named.values():
            view.is_asked = False

    def due_for_discovery(self) -> bool:
        """Whether those of which nothing was ever heard are to be asked now: a worker may send nothing at all."""
        sought, self._due_for_discovery = self._due_for_discovery, False
        return sought

    def have_answered(self, since: float) -> bool:
        """Whether all that are online have said since then which tasks they have, but for those that never answer."""
        return all(view.answered_at >= since or view.is_mute for view in self.online().values())

    def may_be_reported(self, queue: str) -> bool:
        """Whether the agent of a worker may report the jobs of this queue, also where it sends no events of them."""
        is_open = any(view.has_agent and not view.queues for view in self.online().values())  # from which one it takes
        return is_open or queue in self._queues_of_agents

    @property
    def is_standby(self) -> bool:
        """Whether another monitor hears what happens, in place of this one."""
        return self._is_standby

    def ended(self, external_id: str, run: Run, at: float = 0.0) -> None:
        """`run` is over, since `at` if an event says so."""
        view = self._views.get(run.worker)
        if view is None:
            return
        _discard(view, external_id, run)
        if view.unreported_ends is not None:
            view.unreported_ends.ended(external_id, run, at)
            if view.unreported_ends.is_settled:
                for each, other in view.unreported_ends.over.items():
                    _discard(view, each, other)
                view.unreported_ends = None

    def reconnected(self, now: float) -> None:
        """Events may be missing up to `now`: nobody has missed a heartbeat, and everybody is to be asked again."""
        self._complete_since = now
        for view in self._views.values():
            view.last_seen = max(view.last_seen, now)
            view.idle_since = None
            view.is_asked, view.times_asked = False, 0

    def enter_standby(self) -> None:
        """Another monitor may hear what happens, in place of us."""
        self._is_standby = True

    def on_takeover(self, now: float) -> None:
        """It did until now, and has told how runs have ended: what has not, workers say when they are asked."""
        if self._is_standby and now - self._complete_since > _DEAFNESS:
            for view in self._views.values():
                view.running.clear()
        self._is_standby = False

    def tick(self, now: float) -> None:
        """Look who has missed three heartbeats, and forget who has gone."""
        if self._is_standby or not 0 <= now - self._looked <= _DEAFNESS:  # this process was stopped, or the clock set
            for view in self._views.values():
                view.last_seen = now
        self._looked = now
        self._reported_queues = frozenset(
            queue for view in self._views.values() if view.has_agent and view.is_there for queue in view.queues
        )
        self._queues_of_agents |= self._reported_queues
        for view in list(self._views.values()):
            silence = now - view.last_seen
            if view.is_online and view.frequency and silence > view.patience:
                # Dated by its own clock: whoever else has heard its last word says the same.
                self._gone(view, view.last_timestamp + view.patience, reason=f"no heartbeat for {silence:.0f} s")
                self._report_lost(view, f"its worker {view.hostname} is lost: no heartbeat for {silence:.0f} s")
            elif not view.is_online and silence > _KEPT and not view.running:
                del self._views[view.process]
                if self._named.get(view.hostname) is view:
                    del self._named[view.hostname]

    # What events say

    def _online(self, view: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        if view.is_online and view.running and event.get("processed") == 0:
            # A container's process that was killed and started again has the number of the one before. A worker that
            # connects again, or is told to send events, says that it is online as well, but not that it ran nothing.
            self._report_lost(view, f"its worker {view.hostname} was started anew")
            view.is_asked, view.times_asked = False, 0
        for other in self._namesakes(view):
            # Its process was replaced before anybody missed it, or heard of it for the first time.
            if other.is_online or other.frequency is None:
                other.is_online = False
                self._report_lost(other, f"its worker {view.hostname} was started anew")
        self._update(view, event, at)

    def _heartbeat(self, view: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        self._update(view, event, at)
        active = as_count(event.get("active"))
        if active is not None:
            view.active = active
            self._update_load(view, active, at)
        slot = int(at / self._interval) if self._interval else view.beat_slot
        if slot != view.beat_slot:
            view.beat_slot = slot
            self._emit_state(view, WorkerState.HEARTBEAT, at, within=self._interval)

    def _offline(self, view: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        is_news = view.is_online or view.frequency is None
        self._update(view, event, None)
        if is_news:
            self._gone(view, at)

        def report_the_rest() -> None:
            if view.is_online:
                return
            # Some may have been heard of after this: a solo worker sends last what it has to say of its tasks.
            begun = [(key, run) for key, run in view.running.items() if (run.started or 0.0) <= at]
            for external_id, run in begun:
                del view.running[external_id]
                if not view.has_agent:
                    self._on_lost_run(external_id, run, view.last_seen, f"its worker {view.hostname} has gone offline")

        self._timers.call(_FAREWELL, report_the_rest)

    def _update(self, view: TrackedWorker, event: Event, online_at: float | None) -> None:
        frequency = as_seconds(event.get("freq"))
        if frequency and ("active" in event or view.frequency is None):  # an answer to `heartbeat` names another one
            view.frequency = frequency if "active" in event else USUAL_FREQUENCY
        version = get_text(event, "sw_ver")
        if version is not None:
            view.software = intern(f"celery {version}")
        system = get_text(event, "sw_sys")
        if system is not None:
            view.system = intern(system.lower())
        if version is not None:
            self._agent_discovery.learn_event(view, event)
        if online_at is not None and not view.is_online:
            view.is_online, view.is_asked, view.times_asked = True, False, 0
            view.idle_since = None
            self._named[view.hostname] = view
            self._emit_state(view, WorkerState.ONLINE, online_at)

    def _update_load(self, view: TrackedWorker, active: int, at: float) -> None:
        if bool(active) is not view.is_busy:
            view.is_busy = bool(active)
            self._emit_state(view, WorkerState.BUSY if active else WorkerState.IDLE, at, within=_IDLE)
        if active:
            view.busy_at, view.idle_since = at, None
            if view.has_agent and view.unreported_ends is None and len(view.running) > active:
                began = {key: run for key, run in view.running.items() if (run.started or 0.0) <= at}
                unreported_ends = UnreportedEnds(at, active, began)
                view.unreported_ends = None if unreported_ends.is_settled else unreported_ends
        elif view.idle_since is None:
            view.idle_since = at
        elif view.running and at - view.idle_since >= _WORDLESS:
            ended = [(key, run) for key, run in view.running.items() if (run.started or 0.0) < view.idle_since]
            for external_id, run in ended:
                del view.running[external_id]
                if not view.has_agent:
                    self._on_lost_run(external_id, run, view.busy_at, _NO_WORD)

    # What inspection says

    def learn_stats(self, view: TrackedWorker, reply: Mapping[str, Any]) -> None:
        """The answer to `inspect stats`."""
        pool = reply.get("pool")
        if isinstance(pool, Mapping):
            module = (get_text(pool, "implementation") or "").partition(":")[0].rpartition(".")[2]
            view.pool = intern(_POOLS.get(module, module)) or None
            view.concurrency = as_count(pool.get("max-concurrency"))
        self._agent_discovery.learn_answer(view, reply)

    def emit_for(self, process: Process) -> Callable[[bytes], None] | None:
        """What takes an event of a job of this worker process; None where its own agent emits it."""
        view = self._views.get(process)
        return self._emit if view is None else self._agent_discovery.emit_for(view)

    def is_reported(self, queue: str | None) -> bool:
        """Whether a worker whose agent reports what it receives takes from `queue`."""
        return queue in self._reported_queues

    def learn_running(self, view: TrackedWorker, external_ids: set[str]) -> None:
        """The answer to `inspect active`: what we have for running and is not there has ended while we were deaf.

        To a worker that sends no events we always are.
        """
        why = "it ended, and its worker sends no events" if view.is_eventless else _WHILE_DEAF
        for external_id, run in list(view.running.items()):
            was_deaf = view.is_eventless or (run.started or 0.0) < self._complete_since
            if external_id in external_ids or not was_deaf:
                continue

            def report(external_id: str = external_id, run: Run = run) -> None:
                if view.running.pop(external_id, None) is run and not (view.has_agent or self._is_standby):
                    self._on_lost_run(external_id, run, self._timers.now, why)

            self._timers.call(_DEAFNESS, report)  # its end may be on its way

    # How it is told

    def _namesakes(self, view: TrackedWorker) -> list[TrackedWorker]:
        named = self._named.get(view.hostname)
        if named is None or named is view:
            return []
        return [other for other in self._views.values() if other.hostname == view.hostname and other is not view]

    def _gone(self, view: TrackedWorker, at: float, reason: str | None = None) -> None:
        """Tell `offline`, unless another process has taken over the worker's name."""
        view.is_online = view.is_busy = False
        view.active = 0
        if not any(other.is_online for other in self._namesakes(view)):
            self._emit_state(view, WorkerState.OFFLINE, at, reason=reason)

    def _report_lost(self, view: TrackedWorker, reason: str) -> None:
        """Nobody will tell what became of the runs of `view`."""
        runs, view.running = view.running, {}
        for external_id, run in runs.items():
            self._on_lost_run(external_id, run, view.last_seen, reason)

    def _emit_state(
        self, view: TrackedWorker, state: WorkerState, at: float, reason: str | None = None, **within: float
    ) -> None:
        if view.has_agent and reason is None:
            return
        about = {
            "pool": view.pool,
            "software": view.software,
            "system": view.system,
            "reason": reason,
        }
        self._emit(
            worker_event(
                self._connection_id,
                view.hostname,
                view.pid,
                state,
                at,
                metadata={name: value for name, value in about.items() if value is not None},
                activeJobs=view.active,
                concurrency=view.concurrency,
                queues=list(view.queues) or None,
                **within,
            )
        )


def _discard(view: TrackedWorker, external_id: str, run: Run) -> None:
    if view.running.get(external_id) is run:
        del view.running[external_id]
