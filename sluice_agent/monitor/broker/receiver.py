"""The thread that receives events: it owns the connection, and it alone calls the tracker.

It reads before it decodes (`backlog`), and continues after any fault: an unreachable broker, a silent connection,
refused credentials, a message that is no event.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Connection, Message
from kombu.serialization import prepare_accept_content

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import logger, warn_limited
from sluice_agent.monitor.broker.backlog import Backlog, Raw, events_in
from sluice_agent.monitor.broker.connection import close_failed, connect, disable_push_log, probe_for
from sluice_agent.monitor.broker.control_client import ENABLE, ControlClient, ControlReply, EnableBackoff, drain
from sluice_agent.monitor.broker.durable import QueueMismatchError

if TYPE_CHECKING:
    from sluice_agent.monitor.broker.subscription import Subscription
    from sluice_agent.monitor.tracker import Tracker

_IDLE_SECONDS = 0.25  # that one read of an idle connection takes, and so the delay of a stop
_DRAIN_SHARE = 0.8  # of the timeout of a stop: for processing what was read
_SLICE_SECONDS = 0.005  # of decoding between two reads of the socket
_GATHER_SECONDS = 0.02  # after all is processed, until the next read: several messages cost less than each alone
_TICK_EVERY = 1.0
_PROBE_EVERY = 2.0
_SILENCE_TIMEOUT = 20.0  # seconds without any sign of life until the connection is given up
_FIRST_PAUSE = 0.2  # seconds between the first two attempts to connect
_MAX_PAUSE = 3.0  # between the later ones: the monitor must be back at once when a broker has been restarted
_STABLE_SECONDS = 5.0  # that a connection must last to be a success: then pauses begin with the first again
_INSPECTION_TIMEOUT = 4.0  # seconds that events wait for the workers' replies about the jobs that they belong to
_STANDBY_SECONDS = 10.0  # without a message, after which another replica may have been active; also at the start

_HEARTBEATS_SECONDS = 10.0  # in which any worker, whether it replies or not, sends several heartbeats

_ONLINE = "worker-online"
_NO_EVENTS = (
    "Workers reply, but none of their events arrive through the exchange %s. If their app sets event_exchange, run "
    "sluice-agent monitor --event-exchange NAME, or celery -A app sluice, which reads it from the app"
)


class SilentConnectionError(ConnectionError):
    """Raised where a connection is open and nothing arrives on it: not even the answer to a probe."""


class _InspectionRound:
    """One inspection of all workers: events wait for its end, `_INSPECTION_TIMEOUT` at the most."""

    def __init__(self) -> None:
        self.is_open = False
        self._hold_until = 0.0
        self._replied: set[str] = set()  # workers that replied in the round and did not appear since

    def begin(self) -> None:
        self.is_open = True
        self._hold_until = time.monotonic() + _INSPECTION_TIMEOUT
        self._replied = set()

    def finish(self) -> None:
        self.is_open = False
        self._hold_until = 0.0

    def holds_events(self) -> bool:
        return time.monotonic() < self._hold_until

    def replied(self, worker: str) -> None:
        if self.is_open:
            self._replied.add(worker)

    def started(self, worker: str) -> None:
        """Void the reply of an earlier process of this name."""
        self._replied.discard(worker)

    def without_reply(self, workers: Collection[str]) -> set[str]:
        """Return those of `workers`, which are due for inspection, that the round leaves to be inspected.

        A reply saves a worker one inspection: one that is due again has been away.
        """
        remaining = set(workers) - self._replied
        self._replied.difference_update(workers)
        return remaining


class Receiver:
    """Passes every event of the broker to `tracker`, from one thread. The sink's `drop` counts what was no event.

    `flush` emits the lines that the tracker has made: it is called when a message, a reply or a tick is processed.
    `on_tick` is called in that thread about once a second. While the sink can't keep events, they stay in a broker that
    keeps them.
    """

    def __init__(
        self,
        app: Celery,
        tracker: Tracker,
        control_client: ControlClient,
        subscription: Subscription,
        sink: Sink,
        flush: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._flush = flush
        self._on_tick = on_tick
        self._app = app
        self._tracker = tracker
        self._control_client = control_client
        self._subscription = subscription
        self._acks = subscription.acks
        self._sink = sink
        self._accept = prepare_accept_content({app.conf.event_serializer, "json"})
        self._backlog = Backlog()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_sign_at = 0.0  # time of the last sign of life, by the monotonic clock
        self._started_at = time.monotonic()
        self._message_at = 0.0
        self._disconnected_since: float | None = None
        self._stop_by = float("inf")
        self._tick_at = 0.0
        self._enable_backoff = EnableBackoff()
        self._inspection = _InspectionRound()
        self._events_due_at: float | None = None  # by the monotonic clock, once a worker has replied
        self._connected_at = 0.0
        self.is_connected = False
        self.connections = 0
        self.gaps = 0
        self.gap_seconds = 0.0
        self.lag_seconds = 0.0
        self.undecodable = 0

    @property
    def read_ahead_bytes(self) -> int:
        """Bytes read and not yet decoded."""
        return self._backlog.bytes

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last sign of life; where there was none, since the start."""
        return time.monotonic() - (self._last_sign_at or self._started_at)

    @property
    def knows_all_workers(self) -> bool:
        """Whether all workers are known by now, but for a silent one: solo, and busy since the start."""
        is_new = time.monotonic() - self._connected_at < _HEARTBEATS_SECONDS
        lacks_events = self._events_due_at is not None and self._message_at < 0
        return self.is_connected and not self._inspection.is_open and not is_new and not lacks_events

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="sluice-receiver", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Process what was read, and stop. Waits for `timeout` seconds at the most."""
        self._stop_by = time.monotonic() + timeout * _DRAIN_SHARE
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            connection, begun_at = None, time.monotonic()
            try:
                connection = connect(self._app, failures)
                begun_at = time.monotonic()
                self._listen(connection)
                connection.release()
            except Exception as error:  # noqa: BLE001 - each transport raises other errors, and any may pass
                self._on_failure(connection, error)
            if connection is not None and time.monotonic() - begun_at >= _STABLE_SECONDS:
                failures = 0
            failures += 1
            pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _MAX_PAUSE)
            self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._finish()  # once more, for what was read on a lost connection

    def _listen(self, connection: Connection) -> None:
        """Subscribe, and process events until the stop or a fault."""
        channel = self._subscription.open(connection, self._read)
        self._drain(connection, 0)  # kombu subscribes to Redis with its first read
        disable_push_log(channel)
        probe = probe_for(connection, channel)
        now = probe_at = self._last_sign_at = time.monotonic()
        self._message_at = float("-inf")
        self._on_connected(connection, now)
        while not self._stopped.is_set():
            has_read = self._read_ahead(connection, 0 if self._backlog and self._may_process() else _IDLE_SECONDS)
            if has_read:
                self._last_sign_at = time.monotonic()
            self._take_replies()
            if self._may_process():
                self._decode(time.monotonic() + _SLICE_SECONDS)
            self._acknowledge()
            now = time.monotonic()
            if now >= probe_at:
                probe_at = now + _PROBE_EVERY
                if probe.is_alive():
                    self._last_sign_at = now
                elif now - self._last_sign_at > _SILENCE_TIMEOUT:
                    raise SilentConnectionError(f"no sign of life for {now - self._last_sign_at:.0f} s")
            if now >= self._tick_at:
                self._tick_at = now + _TICK_EVERY
                self._tick()
            if has_read and not self._backlog:
                self._stopped.wait(_GATHER_SECONDS)
        self._read_ahead(connection, wait=0)
        self._finish()
        self._acknowledge()
        self._subscription.close()
        self.is_connected = False

    def _may_process(self) -> bool:
        """Return False while an inspection may explain events, or the broker keeps those that can't be written."""
        if self._acks is not None and not self._sink.can_keep():
            return False
        return not self._inspection.holds_events() or self._backlog.bytes > self._subscription.read_ahead_limit

    def _read_ahead(self, connection: Connection, wait: float) -> bool:
        """Read what has arrived, as far as there is room; wait `wait` seconds at most. Return whether anything had."""
        if self._backlog.bytes > self._subscription.read_ahead_limit:
            self._stopped.wait(wait)
            return False
        has_read = False
        while self._backlog.bytes <= self._subscription.read_ahead_limit and self._drain(connection, wait):
            has_read, wait = True, 0
        return has_read

    def _finish(self) -> None:
        """Process what was read, as far as time allows; a durable queue's messages are delivered again instead."""
        if self._acks is None:
            self._decode(self._stop_by)
            if self._backlog:
                text = "The stop left no time to process %d messages of the broker: their events are missing."
                warn_limited("unread", text, len(self._backlog))
        self._tracker.finish()
        self._flush()

    def _acknowledge(self) -> None:
        """Let the broker forget the messages whose events have their lines."""
        if self._acks is not None:
            self._acks.ack_through(self._tracker.ack_watermark)

    def _drain(self, connection: Connection, timeout: float) -> bool:
        """Let kombu read what has arrived; return whether anything had."""
        try:
            connection.drain_events(timeout=timeout)
        except TimeoutError:
            return False
        return True

    def _read(self, message: Message) -> None:
        token, is_new = self._acks.token(message) if self._acks is not None else (None, True)
        if self._acks is not None and time.monotonic() - self._message_at > _STANDBY_SECONDS:
            self._guarded(self._tracker.on_takeover, time.time())
            self._inspect_all()
        self._message_at = time.monotonic()
        body = message.body if is_new else b"[]"
        if isinstance(body, str):
            body = body.encode()
        self._backlog.add(Raw(body, message.content_type, message.content_encoding, token, time.time()))

    def _decode(self, until: float) -> None:
        """Pass what was read to the tracker, oldest first, until the monotonic clock reaches `until`."""
        take = self._tracker.take
        while self._backlog and time.monotonic() < until:
            message = self._backlog.take()
            self._tracker.advance(message.read_at)
            try:
                for event in events_in(message, self._accept):
                    take(event)
                    if isinstance(event, dict) and event.get("type") == _ONLINE:
                        self._on_worker_online(str(event.get("hostname")))
            except Exception as error:  # noqa: BLE001 - any client may publish anything to the event exchange
                self.undecodable += 1
                self._sink.drop("undecodable")
                text = "A message is no event (%s: %s): counted as dropped."
                warn_limited("undecodable", text, type(error).__name__, error)
            self._flush()
            if self._acks is not None:
                self._acks.mark_processed(message.token, self._tracker.received_seq)
            self.lag_seconds = max(time.time() - message.read_at, 0.0)
        if not self._backlog:
            self.lag_seconds = 0.0

    def _take_replies(self) -> None:
        for reply in drain(self._control_client.replies):
            if isinstance(reply, ControlReply) and reply.command == ENABLE:
                self._enable_backoff.acknowledged(reply.worker)
            elif isinstance(reply, ControlReply):
                self._events_due_at = self._events_due_at or time.monotonic() + _HEARTBEATS_SECONDS
                self._inspection.replied(reply.worker)
                self._guarded(self._tracker.on_reply, reply.worker, reply.command, reply.reply)
            elif reply.connection == self.connections:
                self._inspection.finish()

    def _on_worker_online(self, worker: str) -> None:
        self._enable_backoff.started(worker)
        self._inspection.started(worker)

    def _tick(self) -> None:
        """Tick the tracker, as of its last event while a backlog waits, or it would miss the events that wait."""
        self._guarded(self._tracker.tick, time.time() - self.lag_seconds)
        self._guarded(self._on_tick)
        now = time.monotonic()
        if self._message_at < 0 and self._acks is None and now > (self._events_due_at or now):
            warn_limited("no_events", _NO_EVENTS, self._app.conf.event_exchange)
        if self._inspection.holds_events():
            return
        if self._control_client.enables_events and (due := self._enable_backoff.due(self._tracker.workers(), now)):
            self._control_client.enable(due)
        workers = self._inspection.without_reply(self._tracker.take_due_inspections())
        if self._tracker.take_due_discovery():
            self._control_client.discover()
        elif workers:
            self._control_client.inspect(workers)

    def _inspect_all(self) -> None:
        self._inspection.begin()
        self._enable_backoff.forget()
        self._control_client.inspect_all(self.connections)

    def _on_connected(self, connection: Connection, now: float) -> None:
        self.is_connected = True
        self._events_due_at = None
        self._connected_at = now
        self.connections += 1
        if self._disconnected_since is not None:
            gap = now - self._disconnected_since
            self._disconnected_since = None
            self.gaps += 1
            self.gap_seconds += gap
            self._guarded(self._tracker.on_reconnect, time.time(), gap)
        else:
            logger.info("Listening to the events of %s", connection.as_uri())
        if self._acks is not None:
            self._guarded(self._tracker.enter_standby)
        self._inspect_all()

    def _on_failure(self, connection: Connection | None, error: Exception) -> None:
        if self.is_connected:
            self.is_connected = False
            self._disconnected_since = self._last_sign_at
        if self._acks is not None:
            self._backlog.clear()
        else:
            self._decode(float("inf"))  # the broker may be away for any time
        if isinstance(error, QueueMismatchError):
            warn_limited("durable", "%s. Until then no event is received.", error)
        else:
            self._warn_of_broker(connection, error)
        if connection is not None:
            with suppress(Exception):
                close_failed(connection)

    def _warn_of_broker(self, connection: Connection | None, error: Exception) -> None:
        failure = "The broker can't be reached" if connection is None else "The connection to the broker is lost"
        warn_limited("broker", "%s (%s: %s). The monitor tries again.", failure, type(error).__name__, error)
        logger.debug(failure, exc_info=sys.exc_info())

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - one fault must not end the monitor
            self._sink.drop("internal_error")
            warn_limited("tracker", "The tracker failed (%s: %s). It continues.", type(error).__name__, error)
            logger.debug("The tracker failed", exc_info=sys.exc_info())
        self._flush()
