"""Where Celery publishes a task's message: the last point before the broker, and an exception that leaves it.

The signals around it do not serve. Who is connected after us may still change the message, `Signal.send` swallows an
exception that is raised asynchronously, no signal follows a failure, and none names the app. The message gets our
header in a copy of its headers, so no receiver of either signal meets it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from types import FunctionType
from typing import Any

from celery import Celery, _state
from celery.app.amqp import AMQP
from kombu import Producer

from sluice_agent.signals.header import HEADER
from sluice_agent.signals.listening import listen
from sluice_agent.signals.run import Run
from sluice_agent.signals.watch import Watch, harmless
from sluice_agent.translation import JobEvents


@dataclass(slots=True)
class Publication:
    """One message of a task that is being published."""

    app: Celery
    name: str
    message: Any
    """Celery's: headers, properties, body and the event that it may send."""
    is_announced: bool = False
    is_sent: bool = False
    """Whether the broker has it, as far as Celery can know."""
    note: dict[str, str] | None = None
    """Our header, once what it claims has been reported."""
    reported: tuple[JobEvents, str] | None = None
    """The events of the job that was reported to wait, and when."""
    run: Run | None = None
    """The execution that publishes its own next attempt."""

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, which every receiver of Celery's signals may see."""
        headers: dict[str, Any] = self.message[0]
        return headers

    def has(self, headers: Any) -> bool:
        """Whether a message with these headers is this one: Celery's own event about it is published within as well.

        A producer of the caller's may have copied them, to add some of its own.
        """
        own = self.headers
        return headers is own or (isinstance(headers, dict) and "id" in own and headers.get("id") == own["id"])


_WATCHED = "_sluice_agent_watched"

_current: ContextVar[Publication | None] = ContextVar("sluice_agent_publication", default=None)


def watch_senders(
    watch: Watch,
    announce: Callable[[Publication, str, str], None],
    failed: Callable[[Publication, BaseException], None],
) -> None:
    """Call `announce` with exchange and routing key before a message goes, `failed` where an exception comes back."""
    _watch_publishing(harmless(watch, announce))
    _watch_task_senders(harmless(watch, failed))


def _watch_task_senders(failed: Callable[[Publication, BaseException], None]) -> None:
    def watched(amqp: AMQP, send: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(send)
        def send_task_message(producer: Any, name: str, message: Any, *args: Any, **kwargs: Any) -> Any:
            publication = Publication(amqp.app, name, message)
            token = _current.set(publication)
            try:
                return send(producer, name, message, *args, **kwargs)
            except BaseException as error:
                if publication.is_announced and not publication.is_sent:
                    failed(publication, error)
                raise
            finally:
                _current.reset(token)

        setattr(send_task_message, _WATCHED, True)
        return send_task_message

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda amqp: watched(amqp, original(amqp))

    listen(AMQP, "_create_task_sender", around)
    for app in tuple(_state._get_active_apps()):
        amqp = vars(app).get("amqp")
        sender = amqp and vars(amqp).get("send_task_message")
        # Made before us, and perhaps wrapped by somebody since.
        if isinstance(sender, FunctionType) and not hasattr(sender, _WATCHED):
            amqp.send_task_message = watched(amqp, sender)


def _watch_publishing(announce: Callable[[Publication, str, str], None]) -> None:
    """Kombu's `_publish` is called when a message is serialised, and again where it could not be delivered."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        names = list(signature(original).parameters)[1:]
        headers_at, exchange_at, key_at = map(names.index, ("headers", "exchange", "routing_key"))

        def _publish(producer: Producer, *args: Any, **kwargs: Any) -> Any:
            publication = _current.get()
            if publication is None or len(args) <= key_at or not publication.has(args[headers_at]):
                return original(producer, *args, **kwargs)
            if not publication.is_announced:
                announce(publication, args[exchange_at], args[key_at])
            if publication.note:
                headers = {**args[headers_at], HEADER: publication.note}
                args = (*args[:headers_at], headers, *args[headers_at + 1 :])
            answer = original(producer, *args, **kwargs)
            publication.is_sent = True
            return answer

        return _publish

    listen(Producer, "_publish", around)
