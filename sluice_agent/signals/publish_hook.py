"""Hooks in the publishing of a task's message: the last point before the broker, and exceptions raised from there.

The signals around it do not suffice. A receiver connected after ours may still change the message, `Signal.send`
swallows asynchronous exceptions, no signal follows a failure, and none names the app. The message gets our header in a
copy of its headers, so no receiver of either signal sees it. If this Celery or kombu lacks a method that is patched
here, `before_task_publish` is used instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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

from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.agent_header import HEADER
from sluice_agent.signals.guard import guarded, guarded_plain, guarded_receiver
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import Run


@dataclass(init=False)  # most messages leave the members with a default as they are: a generated method would set them
class Publication:
    """One message of a task that is being published."""

    app: Celery
    name: str
    message: Any
    """Celery's tuple of headers, properties, body and the Celery event that it may send."""
    options: Mapping[str, Any] | None = None
    """The arguments of Celery's sender, such as the serializer; None if they are not known."""
    is_nested: bool = False
    """True if it began within another one: in a hook, or in an OS signal handler."""
    on_failure: Callable[[Publication, BaseException], None] | None = None
    """Called if sending the message raises; set once the message is announced."""
    is_sent: bool = False
    """True if the broker has it, as far as Celery can know."""
    agent_header: dict[str, str] | None = None
    """Our header, set once the events that it claims are reported."""
    reported: tuple[JobEvents, str] | None = None
    """The events of the job that was reported as waiting, and the time of that report."""
    plain_job: tuple[str, str, str, str, str] | None = None
    """In place of that for a plain job: the arguments of `PlainJobEvents`. It was reported as it was created."""
    external_id: object = None
    created_at: str = ""
    """When the job was created, once it is reported as waiting."""
    run: Run | None = None
    """The run that publishes its own next attempt."""

    def __init__(
        self, app: Celery, name: str, message: Any, options: Mapping[str, Any] | None = None, is_nested: bool = False
    ) -> None:
        self.app = app
        self.name = name
        self.message = message
        self.options = options
        self.is_nested = is_nested

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, which every receiver of Celery's signals may see."""
        headers: dict[str, Any] = self.message[0]
        return headers

    def has_headers(self, headers: Any) -> bool:
        """Return whether `headers` are of this message: Celery's event about it is published within the same call.

        A custom producer may have copied the headers, to add some.
        """
        own = self.headers
        return headers is own or (isinstance(headers, dict) and "id" in own and headers.get("id") == own["id"])


BEFORE_PUBLISH_UID = "sluice_agent.before_task_publish"
_WRAPPED = "_sluice_agent_watched"
_MIN_PARTS = 3  # headers, properties and body; Celery's own message has a fourth
_WITHOUT_PUBLISHER = (
    "other receivers of `before_task_publish` see the agent's header, and what they change after it is not reported"
)
_WITHOUT_SENDERS = "a job whose publication fails stays queued, and its queue is named as the current app would"

_current: ContextVar[Publication | None] = ContextVar("sluice_agent_publication", default=None)
_last: ContextVar[Publication | None] = ContextVar("sluice_agent_last_publication", default=None)
"""The same where Celery's sender could not be patched."""


def current_publication() -> Publication | None:
    """Return what this thread publishes now."""
    return _current.get() or _last.get()


def patch_publishing(
    sink: Sink,
    announce: Callable[[Publication, str, str], None],
    announce_plain: Callable[[Publication, str, str], bool] = lambda *_: False,
) -> None:
    """Call `announce` with exchange and routing key before a message is sent; it sets `on_failure`.

    `announce_plain` is called before it, and in place of it for a plain job: then it returns True.
    """
    is_patched = _patch_kombu_publish(sink, guarded(sink, announce), announce_plain)
    if not (_patch_task_senders() and is_patched):
        receiver = guarded_receiver(sink, partial(_before_task_publish, announce))
        before_task_publish.connect(receiver, weak=False, dispatch_uid=BEFORE_PUBLISH_UID)


def _before_task_publish(
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
        # `celery.current_app` may make an app, and import settings that the host never imports.
        app = getattr(_state._tls, "current_app", None) or _state.default_app
        publication = Publication(app, sender, (headers, properties, body)) if app is not None else None
    if publication is None or not isinstance(headers, dict) or not publication.has_headers(headers):
        return
    announce(publication, exchange, routing_key)
    _last.set(publication)
    if publication.agent_header:
        headers[HEADER] = publication.agent_header


def _patch_task_senders() -> bool:
    def wrapped(amqp: AMQP, send: Callable[..., Any]) -> Callable[..., Any]:
        app = getattr(amqp, "app", None)

        @wraps(send)
        def send_task_message(*args: Any, **kwargs: Any) -> Any:
            # Celery passes the producer, the name and the message by position.
            _, name, message, options = (*args, kwargs) if len(args) == 3 else _named(args, kwargs)
            is_message = isinstance(message, (tuple, list)) and len(message) >= _MIN_PARTS
            if not isinstance(name, str) or not is_message or app is None:
                return send(*args, **kwargs)
            publication = Publication(app, name, message, options, _current.get() is not None)
            token = _current.set(publication)
            try:
                return send(*args, **kwargs)
            except BaseException as error:
                if publication.on_failure is not None and not publication.is_sent:
                    publication.on_failure(publication, error)
                raise
            finally:
                _current.reset(token)

        setattr(send_task_message, _WRAPPED, True)
        return send_task_message

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def create_task_sender(amqp: AMQP, *args: Any, **kwargs: Any) -> Any:
            sender = original(amqp, *args, **kwargs)
            return wrapped(amqp, sender) if callable(sender) else sender

        return create_task_sender

    is_patched = patch_method(AMQP, "_create_task_sender", around, without=_WITHOUT_SENDERS)
    for app in tuple(getattr(_state, "_get_active_apps", tuple)()):
        amqp: Any = getattr(app, "__dict__", {}).get("amqp")
        sender = getattr(amqp, "__dict__", {}).get("send_task_message")
        # The app made its sender before our patch, and another library may have wrapped it since.
        if isinstance(sender, FunctionType) and not hasattr(sender, _WRAPPED):
            amqp.send_task_message = wrapped(amqp, sender)
    return is_patched


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return producer, name, message and all arguments of a call of Celery's sender, however they are passed."""
    named = {**dict(zip(("producer", "name", "message"), args, strict=False)), **kwargs}
    return named.get("producer"), named.get("name"), named.get("message"), named


def _patch_kombu_publish(
    sink: Sink,
    announce: Callable[[Publication, str, str], None],
    announce_plain: Callable[[Publication, str, str], bool],
) -> bool:
    """Patch kombu's `_publish`, which is called with a serialised message, and again if it could not be delivered."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        headers, exchange, routing_key = _arguments_of(original, "headers", "exchange", "routing_key")
        sent_at, to_at, key_at = headers.index, exchange.index, routing_key.index
        last = max(sent_at, to_at, key_at)
        announce_once = guarded_plain(sink, announce, announce_plain)

        def _publish(producer: Producer, *args: Any, **kwargs: Any) -> Any:
            publication = _current.get()
            if publication is None:
                return original(producer, *args, **kwargs)
            if len(args) > last:  # as kombu calls it: three look-ups by name would cost as much as the event
                sent, to, key = args[sent_at], args[to_at], args[key_at]
            else:
                sent, to, key = (argument.of(args, kwargs) for argument in (headers, exchange, routing_key))
            if not (sent is publication.message[0] or publication.has_headers(sent)):
                return original(producer, *args, **kwargs)
            if publication.on_failure is None:
                announce_once(publication, to, key)
            if publication.agent_header and isinstance(sent, dict):
                marked = sent.copy()
                marked[HEADER] = publication.agent_header
                args, kwargs = headers.replaced(args, kwargs, marked)
            result = original(producer, *args, **kwargs)
            publication.is_sent = True
            return result

        return _publish

    return patch_method(Producer, "_publish", around, without=_WITHOUT_PUBLISHER)


@dataclass(frozen=True, slots=True)
class _Argument:
    """An argument of a method, which may be passed by position or by name."""

    name: str
    index: int

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return its value in a call; None if it is not passed."""
        return args[self.index] if self.index < len(args) else kwargs.get(self.name)

    def replaced(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> tuple[tuple[Any, ...], Any]:
        """Return the arguments of a call with this one replaced by `value`."""
        if self.index < len(args):
            parts = list(args)
            parts[self.index] = value
            return tuple(parts), kwargs
        return args, {**kwargs, self.name: value}


def _arguments_of(method: Callable[..., Any], *names: str) -> list[_Argument]:
    """Return the arguments `names` of a method. Raise LookupError if it lacks one of them."""
    parameters = signature(method).parameters
    indexes = {name: index for index, name in enumerate(parameters, -1)}  # without `self`
    by_name_alone = {name for name, parameter in parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY}
    return [_Argument(name, sys.maxsize if name in by_name_alone else indexes[name]) for name in names]
