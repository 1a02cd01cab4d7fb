"""The thread that receives events: it owns the connection, and everything that the observer hears is told to it here.

It reads before it decodes (`backlog`), and goes on after whatever happens: a broker that is away, a connection that is
silent, credentials that are refused, an event that is none.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Connection, Message
from kombu.serialization import prepare_accept_content

from sluice_agent.log import complain, logger
from sluice_agent.monitor.backlog import Backlog, Raw, events_in
from sluice_agent.monitor.connection import connect, drop, probe_of
from sluice_agent.monitor.control_client import ENABLE, ControlClient, ControlReply, EnableBackoff, drain
from sluice_agent.monitor.durable import AnotherQueueError
from sluice_agent.monitor.subscription import disable_push_log

if TYPE_CHECKING:
    from sluice_agent.monitor.subscription import Subscription
    from sluice_agent.monitor.tracker import Tracker

_IDLE = 0.25  # seconds that one look at an idle connection takes, and so a stop at the most
_PROCESSING_SHARE = 0.8  # of the time that a stop has, the part that may go on telling what was read
_SLICE = 0.005  # seconds of decoding between two looks at the socket
_TICK_EVERY = 1.0
_PROBE_EVERY = 2.0
_DEAF_AFTER = 20.0  # seconds without any sign of life until the connection is given up
_FIRST_PAUSE = 0.2  # seconds between two attempts to connect, at first
_LONGEST_PAUSE = 3.0  # at last: whoever restarts a broker sees us back at once
_GOOD_AFTER = 5.0  # seconds that a connection must live to be called a success: then pauses begin with the first again
_INSPECTION_SECONDS = 4.0  # seconds that events wait for what workers know of the jobs that they are about
_STANDBY = 10.0  # seconds without a message after which another replica may have been the active one; so at first

_EVENTLESS = 10.0  # seconds in which a worker that answers has sent several heartbeats
_MEETING = 10.0  # seconds of listening in which each worker, whether it answers or not, sends some heartbeats

_ONLINE = "worker-online"
_NO_EVENTS = (
    "Workers answer, but none of their events come through the exchange %s. If their app sets event_exchange: "
    "sluice-agent monitor --event-exchange NAME, or celery -A app sluice, which knows it"
)


class SilentConnectionError(ConnectionError):
    """The connection stands, and nothing comes: not even the answer to a probe."""


class Receiver:
    """Tells `tracker` every event of the broker, from one thread. `lost` counts, by reason, what was no event.

    `on_tick` is called in that thread about once a second. `can_keep` says whether what is told now can be written
    down: while it can't, events stay in a broker that keeps them.
    """

    def __init__(
        self,
        app: Celery,
        tracker: Tracker,
        control_client: ControlClient,
        subscription: Subscription,
        drop: Callable[[str], None],
        on_tick: Callable[[], None],
        can_keep: Callable[[], bool],
    ) -> None:
        self._can_keep = can_keep
        self._on_tick = on_tick
        self._app = app
        self._tracker = tracker
        self._control_client = control_client
        self._subscription = subscription
        self._drop = drop
        self._accept = prepare_accept_content({app.conf.event_serializer, "json"})
        self._backlog = Backlog()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_sign_at = 0.0  # the monotonic clock at the last sign of life
        self._started_at = time.monotonic()
        self._message_at = 0.0
        self._disconnected_since: float | None = None
        self._stop_by = float("inf")
        self._hold_until = 0.0
        self._tick_at = 0.0
        self._enable_backoff = EnableBackoff()
        self._is_asking_all = False
        self._is_eventless_after: float | None = None  # the monotonic clock, once a worker has answered
        self._listening_since = 0.0
        self._answered: set[str] = set()  # who has answered while all were asked, and has not come up yet
        self.is_connected = False
        self.connections = 0
        self.gaps = 0
        self.gap_seconds = 0.0
        self.lag_seconds = 0.0
        self.undecodable = 0

    @property
    def read_ahead_bytes(self) -> int:
        """What is read and not yet decoded."""
        return self._backlog.bytes

    @property
    def silent_seconds(self) -> float:
        """Since the last sign of life; where there was none, since the start."""
        return time.monotonic() - (self._last_sign_at or self._started_at)

    @property
    def has_met_everyone(self) -> bool:
        """Whether a worker that is not known by now is none, unless it is silent: solo, and busy since the start."""
        is_new = time.monotonic() - self._listening_since < _MEETING
        is_deaf = self._is_eventless_after is not None and self._message_at < 0
        return self.is_connected and not self._is_asking_all and not is_new and not is_deaf

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sluice-receiver", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End: what has been read is told first. Waits for `timeout` seconds at the most."""
        self._stop_by = time.monotonic() + timeout * _PROCESSING_SHARE
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            connection, begun = None, time.monotonic()
            try:
                connection = connect(self._app, failures)
                begun = time.monotonic()
                self._listen(connection)
                connection.release()
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own, and each may pass
                self._note_failure(connection, error)
            if connection is not None and time.monotonic() - begun >= _GOOD_AFTER:
                failures = 0
            failures += 1
            pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._finish()  # once more, for what was heard on a connection that is gone

    def _listen(self, connection: Connection) -> None:
        """Subscribe, and take what comes until the end or a fault."""
        channel = self._subscription.open(connection, self._read)
        self._drain(connection, 0)  # kombu subscribes to Redis as it first looks for messages
        disable_push_log(channel)
        probe = probe_of(connection, channel)
        now = probe_at = self._last_sign_at = time.monotonic()
        self._message_at = float("-inf")
        self._connected(connection, now)
        while not self._stopped.is_set():
            if self._read_ahead(connection, wait=0 if self._backlog and self._may_process() else _IDLE):
                self._last_sign_at = time.monotonic()
            self._take_replies()
            if self._may_process():
                self._decode(time.monotonic() + _SLICE)
            self._subscription.ack_through(self._tracker.ack_watermark)
            now = time.monotonic()
            if now >= probe_at:
                probe_at = now + _PROBE_EVERY
                if probe.is_alive():
                    self._last_sign_at = now
                elif now - self._last_sign_at > _DEAF_AFTER:
                    raise SilentConnectionError(f"no sign of life for {now - self._last_sign_at:.0f} s")
            if now >= self._tick_at:
                self._tick_at = now + _TICK_EVERY
                self._tick()
        self._read_ahead(connection, wait=0)
        self._finish()
        self._subscription.ack_through(self._tracker.ack_watermark)
        self._subscription.close()
        self.is_connected = False

    def _may_process(self) -> bool:
        """Not while workers are asked what events are about, nor what can't be written and the broker keeps for us."""
        if self._subscription.is_durable and not self._can_keep():
            return False
        return time.monotonic() >= self._hold_until or self._backlog.bytes > self._subscription.most_ahead

    def _read_ahead(self, connection: Connection, wait: float) -> bool:
        """Read all that has come, as long as there is room, waiting `wait` seconds at most; whether anything had."""
        if self._backlog.bytes > self._subscription.most_ahead:
            self._stopped.wait(wait)
            return False
        found = False
        while self._backlog.bytes <= self._subscription.most_ahead and self._drain(connection, wait):
            found, wait = True, 0
        return found

    def _finish(self) -> None:
        """Tell what was read, as far as time allows; what the broker keeps for us it hands out again."""
        if not self._subscription.is_durable:
            self._decode(self._stop_by)
            if self._backlog:
                complain("unread", "There was no time to tell %d messages of the broker.", len(self._backlog))
        self._tracker.finish()

    def _drain(self, connection: Connection, timeout: float) -> bool:
        """Let kombu read what has come; whether anything had."""
        try:
            connection.drain_events(timeout=timeout)
        except TimeoutError:
            return False
        return True

    def _read(self, message: Message) -> None:
        token, is_new = self._subscription.token(message)
        if self._subscription.is_durable and time.monotonic() - self._message_at > _STANDBY:
            self._guarded(self._tracker.on_takeover, time.time())
            self._ask_all()
        self._message_at = time.monotonic()
        body = message.body if is_new else b"[]"
        if isinstance(body, str):
            body = body.encode()
        self._backlog.add(Raw(body, message.content_type, message.content_encoding, token, time.time()))

    def _decode(self, until: float) -> None:
        """Tell the observer what was read, oldest first, until the monotonic clock says `until`."""
        take = self._tracker.take
        while self._backlog and time.monotonic() < until:
            message = self._backlog.take()
            self._tracker.advance(message.read_at)
            try:
                for event in events_in(message, self._accept):
                    take(event)
                    if isinstance(event, dict) and event.get("type") == _ONLINE:
                        self._started(str(event.get("hostname")))
            except Exception as error:  # noqa: BLE001 - anybody may publish anything to the event exchange
                self.undecodable += 1
                self._drop("undecodable")
                complain("undecodable", "A message is no event (%s: %s); it is counted.", type(error).__name__, error)
            self._subscription.mark_processed(message.token, self._tracker.received_seq)
            self.lag_seconds = max(time.time() - message.read_at, 0.0)
        if not self._backlog:
            self.lag_seconds = 0.0

    def _take_replies(self) -> None:
        for answer in drain(self._control_client.answers):
            if isinstance(answer, ControlReply) and answer.what == ENABLE:
                self._enable_backoff.acknowledged(answer.worker)
            elif isinstance(answer, ControlReply):
                self._is_eventless_after = self._is_eventless_after or time.monotonic() + _EVENTLESS
                if self._is_asking_all:
                    self._answered.add(answer.worker)
                self._guarded(self._tracker.on_reply, answer.worker, answer.what, answer.reply)
            elif answer.connection == self.connections:
                self._hold_until = 0.0
                self._is_asking_all = False

    def _started(self, worker: str) -> None:
        self._enable_backoff.started(worker)
        self._answered.discard(worker)

    def _tick(self) -> None:
        """Let the observer look at the time: not later than what it has heard, or it would miss what still waits."""
        self._guarded(self._tracker.tick, time.time() - self.lag_seconds)
        self._guarded(self._on_tick)
        now = time.monotonic()
        if self._message_at < 0 and not self._subscription.is_durable and now > (self._is_eventless_after or now):
            complain("no_events", _NO_EVENTS, self._app.conf.event_exchange)
        if now < self._hold_until:
            return
        if self._control_client.enables_events and (untold := self._enable_backoff.due(self._tracker.workers(), now)):
            self._control_client.enable(untold)
        due_for_inspection = set(self._tracker.due_for_inspection())
        if self._tracker.due_for_discovery():
            self._control_client.discover()
        elif due_for_inspection - self._answered:
            self._control_client.ask(due_for_inspection - self._answered)
        self._answered -= due_for_inspection  # one that comes up again has been away

    def _ask_all(self) -> None:
        self._hold_until = time.monotonic() + _INSPECTION_SECONDS
        self._is_asking_all = True
        self._answered = set()
        self._enable_backoff.forget()
        self._control_client.ask_all(self.connections)

    def _connected(self, connection: Connection, now: float) -> None:
        self.is_connected = True
        self._is_eventless_after = None
        self._listening_since = now
        self.connections += 1
        if self._disconnected_since is not None:
            gap = now - self._disconnected_since
            self._disconnected_since = None
            self.gaps += 1
            self.gap_seconds += gap
            self._guarded(self._tracker.on_reconnect, time.time(), gap)
        else:
            logger.info("Listening to the events of %s", connection.as_uri())
        if self._subscription.is_durable:
            self._guarded(self._tracker.enter_standby)
        self._ask_all()

    def _note_failure(self, connection: Connection | None, error: Exception) -> None:
        if self.is_connected:
            self.is_connected = False
            self._disconnected_since = self._last_sign_at
        if self._subscription.is_durable:
            self._backlog.clear()
        else:
            self._decode(float("inf"))  # nobody knows how long the broker is away
        if isinstance(error, AnotherQueueError):
            complain("durable", "%s. Until then no event is heard.", error)
        else:
            self._complain_of_broker(connection, error)
        if connection is not None:
            with suppress(Exception):
                drop(connection)

    def _complain_of_broker(self, connection: Connection | None, error: Exception) -> None:
        what = "The broker can't be reached" if connection is None else "The connection to the broker is lost"
        complain("broker", "%s (%s: %s); it is tried again.", what, type(error).__name__, error)
        logger.debug(what, exc_info=sys.exc_info())

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - one fault must not end the capture
            self._drop("internal_error")
            complain("observer", "The observer failed (%s: %s); it goes on.", type(error).__name__, error)
            logger.debug("The observer failed", exc_info=sys.exc_info())
