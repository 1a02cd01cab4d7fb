"""What Celery's own events report, as a monitor receives them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.events.receiver import EventReceiver

from tests.benchmarks.endpoint import Received

_STATES = {"task-received": "queued", "task-started": "active", "task-succeeded": "completed"}
_START_TIMEOUT = 10.0  # seconds


class EventListener:
    """Counts the events of a broker in `received`, in a thread."""

    def __init__(self, url: str, received: Received) -> None:
        """Return once it listens."""
        self._received = received
        self._listens = threading.Event()
        app = Celery("listener", broker=url, set_as_current=False)
        self._connection = app.connection_for_read()
        self._receiver = _Receiver(self._connection, handlers={"*": self._take}, app=app)
        self._receiver.on_ready = self._listens.set
        self._thread = threading.Thread(target=self._receiver.capture, kwargs={"wakeup": False}, daemon=True)
        self._thread.start()
        if not self._listens.wait(_START_TIMEOUT):
            raise TimeoutError("the broker did not accept a listener of Celery events")

    def close(self) -> None:
        """Stop."""
        self._receiver.should_stop = True
        self._thread.join(5)
        self._connection.release()

    def _take(self, event: dict[str, Any]) -> None:
        if (state := _STATES.get(event["type"])) is not None:
            self._received.events += 1
            self._received.states[state] += 1


class _Receiver(EventReceiver):  # type: ignore[misc]
    on_ready: Callable[[], None]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        self.on_ready()
