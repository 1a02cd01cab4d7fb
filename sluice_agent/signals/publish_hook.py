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
from sluice_agent.signals.guard import guarded, guarded_receiver, raise_interruption
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import Run

PlainJob = tuple[str, str, str, str, str]
"""A plain job that was reported as waiting: the arguments of `PlainJobEvents`. The last is when it was created."""


@dataclass(slots=True)
class WaitingJob:
    """Any other job that was reported as waiting, or as the next attempt of a run."""

    events: JobEvents | None
    """None: the run reports it."""
    when: str
    """When it was reported."""
    external_id: object = None
    created_at: str = ""
    run: Run | None = None
    """The run that publishes its own next attempt."""


class Publication:
    """One message of a task that is being published: see `new_publication`."""

    __slots__ = ("agent_header", "app", "is_sent", "message", "name", "on_failure", "options", "reported")

    app: Celery
    name: str
    message: Any
    """Celery's tuple of headers, properties, body and the Celery event that it may send."""
    options: Mapping[str, Any] | None
    """The arguments of Celery's sender, such as the serializer; None if they are not known."""
    on_failure: Callable[[Publication, BaseException], None] | None
    """Called if sending the message raises; set once the message is announced."""
    is_sent: bool
    """True if the broker has it, as far as Celery can know."""
    agent_header: dict[str, str] | None
    """Our header, set once the events that it claims are reported."""
    reported: PlainJob | WaitingJob | None
    """What was reported of its job; a plain job's is set before it is reported."""

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, which every receiver of Celery's signals may see."""
        headers: dict[str, Any] = self.message[0]
        return headers

    @property
    def created_job(self) -> tuple[object, str]:
        """The id of the job that was reported as waiting, and when it was created; an empty time if none was."""
        reported = self.reported
        if reported is None:
            return None, ""
        if isinstance(reported, WaitingJob):
            return reported.external_id, reported.created_at
        return reported[0], reported[-1]

    def has_headers(self, headers: Any) -> bool:
        """Return whether `headers` are of this message: Celery's event about it is published within the same call.

        A custom producer may have copied the headers, to add some.
        """
        own = self.headers
        return headers is own or (isinstance(headers, dict) and "id" in own and headers.get("id") == own["id"])


def new_publication(app: Celery, name: str, message: Any, options: Mapping[str, Any] | None = None) -> Publication:
    """Return the publication of `message`, which is not announced yet. An `__init__` would cost twice as much."""
    publication = Publication()
    publication.app, publication.name, publication.message, publication.options = app, name, message, options
    publication.on_failure = publication.agent_header = publication.reported = None
    publication.is_sent = False
    return publication


BEFORE_PUBLISH_UID = "sluice_agent.before_task_publish"
_WRAPPED = "_sluice_agent_watched"
Announce = Callable[[Publication, str, str], None]
AnnouncePlain = Callable[[Publication, str, str], bool]
Prepare = Callable[[Publication, Any, str, str], Any]

_PUBLISH_PARAMETERS = (
    *("self", "body", "priority", "content_type", "content_encoding", "headers", "properties", "routing_key"),
    *("mandatory", "immediate", "exchange", "declare", "timeout", "confirm_timeout", "retry", "retry_policy"),
)
_WITHOUT = (
    "other receivers of `before_task_publish` see the agent's header, and what they change after it is not reported; "
    "a job whose publication fails stays queued, and its queue is named as the current app would"
)

_ATTRIBUTE = "sluice_agent_publication"
"""Of a kombu producer: what it publishes now. A context variable costs seven times as much."""

_last: ContextVar[Publication | None] = ContextVar("sluice_agent_last_publication", default=None)
"""The last publication where a method could not be patched."""


def current_publication(producer: Any) -> Publication | None:
    """Return what `producer` publishes now, in this thread."""
    return getattr(producer, _ATTRIBUTE, None) or _last.get()


def patch_publishing(sink: Sink, announce: Announce, announce_plain: AnnouncePlain = lambda *_: False) -> None:
    """Call `announce` with exchange and routing key before a message is sent; it sets `on_failure`.

    `announce_plain` is called before it, and in place of it for a plain job: then it returns True.
    """
    if not (_patch_kombu_publish(_preparing(sink, announce, announce_plain)) and _patch_task_senders()):
        receiver = guarded_receiver(sink, partial(_before_task_publish, announce))
        before_task_publish.connect(receiver, weak=False, dispatch_uid=BEFORE_PUBLISH_UID)


def _before_task_publish(
    announce: Announce,
    sender: Any = None,
    headers: Any = None,
    properties: Any = None,
    body: Any = None,
    exchange: Any = None,
    routing_key: Any = None,
    **_: Any,
) -> None:
    # `celery.current_app` may make an app, and import settings that the host never imports.
    app = getattr(_state._tls, "current_app", None) or _state.default_app
    if app is None or not isinstance(headers, dict):
        return
    publication = new_publication(app, sender, (headers, properties, body))
    announce(publication, exchange, routing_key)
    _last.set(publication)
    if publication.agent_header:
        headers[HEADER] = publication.agent_header


def _patch_task_senders() -> bool:
    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def create_task_sender(amqp: AMQP, *args: Any, **kwargs: Any) -> Any:
            sender = original(amqp, *args, **kwargs)
            return _watched(amqp, sender) if callable(sender) else sender

        return create_task_sender

    is_patched = patch_method(AMQP, "_create_task_sender", around, without=_WITHOUT)
    for app in tuple(getattr(_state, "_get_active_apps", tuple)()):
        amqp: Any = getattr(app, "__dict__", {}).get("amqp")
        sender = getattr(amqp, "__dict__", {}).get("send_task_message")
        # The app made its sender before our patch, and another library may have wrapped it since.
        if isinstance(sender, FunctionType) and not hasattr(sender, _WRAPPED):
            amqp.send_task_message = _watched(amqp, sender)
    return is_patched


def _watched(amqp: AMQP, send: Callable[..., Any]) -> Callable[..., Any]:
    """Return the sender `send` in a function that marks its producer, and learns of a failure."""
    app = getattr(amqp, "app", None)
    if app is None:
        return send

    @wraps(send)
    def send_task_message(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 3:  # Celery passes the producer, the name and the message by position
            producer, name, message = args
            options = kwargs
        else:
            producer, name, message, options = _named(args, kwargs)
        if not isinstance(producer, Producer) or not isinstance(message, (tuple, list)):
            return send(*args, **kwargs)
        publication = new_publication(app, name, message, options)
        outer = producer.sluice_agent_publication
        try:
            producer.sluice_agent_publication = publication
            return send(*args, **kwargs)
        except BaseException as error:
            if publication.on_failure is not None and not publication.is_sent:
                publication.on_failure(publication, error)
            raise
        finally:
            producer.sluice_agent_publication = outer

    setattr(send_task_message, _WRAPPED, True)
    return send_task_message


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return producer, name, message and all arguments of a call of Celery's sender, however they are passed."""
    named = {**dict(zip(("producer", "name", "message"), args, strict=False)), **kwargs}
    return named.get("producer"), named.get("name"), named.get("message"), named


def _preparing(sink: Sink, announce: Announce, announce_plain: AnnouncePlain) -> Prepare:
    """Return a function that announces a message, once, and returns a copy of its headers that has ours."""
    announce = guarded(sink, announce)

    def prepare(publication: Publication, headers: Any, exchange: str, routing_key: str) -> Any:
        if publication.on_failure is None:
            fault, is_announced = None, False
            try:
                is_announced = announce_plain(publication, exchange, routing_key)
            except BaseException as error:  # noqa: BLE001 - the promise: nothing of ours reaches the host
                fault = error
            if fault is not None:  # here, outside the `except`, exc_info() is the task's again
                raise_interruption(sink, fault, partial(announce, publication, exchange, routing_key))
            elif not is_announced:
                announce(publication, exchange, routing_key)
        if publication.agent_header and isinstance(headers, dict):
            headers = headers.copy()
            headers[HEADER] = publication.agent_header
        return headers

    return prepare


def _patch_kombu_publish(prepare: Prepare) -> bool:
    """Patch kombu's `_publish`, which is called with a serialised message, and again if it could not be delivered."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        if tuple(signature(original, follow_wrapped=False).parameters) == _PUBLISH_PARAMETERS:
            return _with_known_parameters(original, prepare)
        return _with_other_parameters(original, prepare)

    setattr(Producer, _ATTRIBUTE, None)
    return patch_method(Producer, "_publish", around, without=_WITHOUT)


def _with_known_parameters(original: Callable[..., Any], prepare: Prepare) -> Callable[..., Any]:
    """Return the replacement of `_publish` as it is in kombu since 5.5. To pass on `*args` costs four times as much."""

    def _publish(
        producer: Producer,
        body: Any,
        priority: Any,
        content_type: Any,
        content_encoding: Any,
        headers: Any,
        properties: Any,
        routing_key: Any,
        mandatory: Any,
        immediate: Any,
        exchange: Any,
        declare: Any,
        timeout: Any = None,
        confirm_timeout: Any = None,
        retry: Any = False,
        retry_policy: Any = None,
    ) -> Any:
        publication = producer.sluice_agent_publication
        if publication is not None:
            if headers is publication.message[0] or publication.has_headers(headers):
                headers = prepare(publication, headers, exchange, routing_key)
            else:
                publication = None
        result = original(
            producer,
            body,
            priority,
            content_type,
            content_encoding,
            headers,
            properties,
            routing_key,
            mandatory,
            immediate,
            exchange,
            declare,
            timeout,
            confirm_timeout,
            retry,
            retry_policy,
        )
        if publication is not None:
            publication.is_sent = True
        return result

    return _publish


def _with_other_parameters(original: Callable[..., Any], prepare: Prepare) -> Callable[..., Any]:
    headers, exchange, routing_key = _arguments_of(original, "headers", "exchange", "routing_key")

    def _publish(producer: Producer, *args: Any, **kwargs: Any) -> Any:
        publication, sent = getattr(producer, _ATTRIBUTE, None), headers.of(args, kwargs)
        if publication is None or not publication.has_headers(sent):
            return original(producer, *args, **kwargs)
        marked = prepare(publication, sent, exchange.of(args, kwargs), routing_key.of(args, kwargs))
        args, kwargs = headers.replaced(args, kwargs, marked)
        result = original(producer, *args, **kwargs)
        publication.is_sent = True
        return result

    return _publish


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
