"""Where Celery publishes a task's message: the last point before the broker, and an exception that leaves it.

The signals around it do not serve. Who is connected after us may still change the message, `Signal.send` swallows an
exception that is raised asynchronously, no signal follows a failure, and none names the app. The message gets our
header in a copy of its headers, so no receiver of either signal meets it. Where another Celery or kombu is without the
methods that are listened to, the first of the signals has to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from inspect import Parameter, signature
from types import FunctionType
from typing import Any

from celery import Celery, _state
from celery.app.amqp import AMQP
from celery.signals import before_task_publish
from kombu import Producer

from sluice_agent.encoding import JobEvents
from sluice_agent.signals.context import Sink, guarded, guarded_receiver
from sluice_agent.signals.header import HEADER
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import Run


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
    agent_header: dict[str, str] | None = None
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


_WRAPPED = "_sluice_agent_watched"
_PARTS = 3  # headers, properties and body; Celery's own message has a fourth
_WITHOUT_PUBLISHER = (
    "other receivers of `before_task_publish` meet the agent's header, and what they change after it is not reported"
)
_WITHOUT_SENDERS = "a job whose publication fails stays queued, and its queue is named as the current app would"

_current: ContextVar[Publication | None] = ContextVar("sluice_agent_publication", default=None)


def patch_publishing(
    sink: Sink,
    announce: Callable[[Publication, str, str], None],
    failed: Callable[[Publication, BaseException], None],
) -> None:
    """Call `announce` with exchange and routing key before a message goes, `failed` where an exception comes back."""
    is_watched = _patch_kombu_publish(guarded(sink, announce))
    if not (_patch_task_senders(guarded(sink, failed)) and is_watched):
        receiver = guarded_receiver(sink, partial(_about_to_publish, announce))
        before_task_publish.connect(receiver, weak=False, dispatch_uid="sluice_agent.before_task_publish")


def _about_to_publish(
    announce: Callable[[Publication, str, str], None],
    sender: Any = None,
    headers: Any = None,
    properties: Any = None,
    body: Any = None,
    exchange: Any = None,
    routing_key: Any = None,
    **_: Any,
) -> None:
    publication = _current.get()
    if publication is None:
        # To ask Celery for the current app may make one, and import settings that the host never does.
        app = getattr(_state._tls, "current_app", None) or _state.default_app
        publication = Publication(app, sender, (headers, properties, body)) if app is not None else None
    if publication is None or not isinstance(headers, dict) or not publication.has(headers):
        return
    announce(publication, exchange, routing_key)
    if publication.agent_header:
        headers[HEADER] = publication.agent_header


def _patch_task_senders(failed: Callable[[Publication, BaseException], None]) -> bool:
    def watched(amqp: AMQP, send: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(send)
        def send_task_message(*args: Any, **kwargs: Any) -> Any:
            publication = _publication(amqp, args, kwargs)
            if publication is None:
                return send(*args, **kwargs)
            token = _current.set(publication)
            try:
                return send(*args, **kwargs)
            except BaseException as error:
                if publication.is_announced and not publication.is_sent:
                    failed(publication, error)
                raise
            finally:
                _current.reset(token)

        setattr(send_task_message, _WRAPPED, True)
        return send_task_message

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def create_task_sender(amqp: AMQP, *args: Any, **kwargs: Any) -> Any:
            sender = original(amqp, *args, **kwargs)
            return watched(amqp, sender) if callable(sender) else sender

        return create_task_sender

    is_watched = patch_method(AMQP, "_create_task_sender", around, without=_WITHOUT_SENDERS)
    for app in tuple(getattr(_state, "_get_active_apps", tuple)()):
        amqp: Any = getattr(app, "__dict__", {}).get("amqp")
        sender = getattr(amqp, "__dict__", {}).get("send_task_message")
        # Made before us, and perhaps wrapped by somebody since.
        if isinstance(sender, FunctionType) and not hasattr(sender, _WRAPPED):
            amqp.send_task_message = watched(amqp, sender)
    return is_watched


def _publication(amqp: AMQP, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Publication | None:
    """What Celery's sender is called for; None where it is called as none that is known."""
    named = {**dict(zip(("producer", "name", "message"), args, strict=False)), **kwargs}
    name, message, app = named.get("name"), named.get("message"), getattr(amqp, "app", None)
    is_message = isinstance(message, (tuple, list)) and len(message) >= _PARTS
    return Publication(app, name, message) if isinstance(name, str) and is_message and app is not None else None


def _patch_kombu_publish(announce: Callable[[Publication, str, str], None]) -> bool:
    """Kombu's `_publish` is called when a message is serialised, and again where it could not be delivered."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        headers, exchange, routing_key = _arguments_of(original, "headers", "exchange", "routing_key")

        def _publish(producer: Producer, *args: Any, **kwargs: Any) -> Any:
            publication = _current.get()
            sent = None if publication is None else headers.of(args, kwargs)
            if publication is None or not isinstance(sent, dict) or not publication.has(sent):
                return original(producer, *args, **kwargs)
            if not publication.is_announced:
                announce(publication, exchange.of(args, kwargs), routing_key.of(args, kwargs))
            if publication.agent_header:
                args, kwargs = headers.replaced(args, kwargs, {**sent, HEADER: publication.agent_header})
            answer = original(producer, *args, **kwargs)
            publication.is_sent = True
            return answer

        return _publish

    return patch_method(Producer, "_publish", around, without=_WITHOUT_PUBLISHER)


@dataclass(frozen=True, slots=True)
class _Argument:
    """An argument of a method, which may be passed by its place or by its name."""

    name: str
    index: int

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Its value in a call; None where it is not passed."""
        return args[self.index] if self.index < len(args) else kwargs.get(self.name)

    def replaced(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> tuple[tuple[Any, ...], Any]:
        """The arguments of a call that has another value of it."""
        if self.index < len(args):
            return (*args[: self.index], value, *args[self.index + 1 :]), kwargs
        return args, {**kwargs, self.name: value}


def _arguments_of(method: Callable[..., Any], *names: str) -> list[_Argument]:
    """Where a method has the arguments `names`. Raises LookupError where it has not all of them."""
    parameters = signature(method).parameters
    indexes = {name: index for index, name in enumerate(parameters, -1)}  # without `self`
    by_name_alone = {name for name, parameter in parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY}
    return [_Argument(name, sys.maxsize if name in by_name_alone else indexes[name]) for name in names]
