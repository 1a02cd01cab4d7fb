"""The messages and requests that a worker's main process has in hand: our header is taken off each and kept here.

So no receiver in this process meets it, in the message, the request, or what Celery makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.transport.virtual import Message as VirtualMessage

from sluice_agent.signals.header import HEADER, RUN, written
from sluice_agent.signals.listening import listen
from sluice_agent.signals.watch import Watch, harmless


class Received:
    """What our header said, by message and by the request that the worker makes of it. Each goes with its key."""

    def __init__(self) -> None:
        self._of_messages: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
        self._of_requests: WeakKeyDictionary[Request, dict[str, str]] = WeakKeyDictionary()
        self._newest: WeakValueDictionary[str, Request] = WeakValueDictionary()

    def watch(self, watch: Watch) -> None:
        """Take our header off each message before the worker looks at it, and back on where it is to be sent again."""
        take, keep = harmless(watch, self._take), harmless(watch, self._keep)

        def handling(original: Callable[..., Any]) -> Callable[..., Any]:
            def create_task_handler(consumer: Consumer, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
                handle = original(consumer, *args, **kwargs)

                def on_task_received(message: Any) -> Any:
                    take(message)
                    return handle(message)

                return on_task_received

            return create_task_handler

        def making(original: Callable[..., Any]) -> Callable[..., Any]:
            def __init__(request: Request, message: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - as above
                original(request, message, *args, **kwargs)
                keep(request, message)

            return __init__

        def restoring(original: Callable[..., Any]) -> Callable[..., Any]:
            def serializable(message: VirtualMessage) -> Any:
                made = original(message)
                note = self._of_messages.get(message)
                return {**made, "headers": {**made["headers"], HEADER: note}} if note else made

            return serializable

        listen(Consumer, "create_task_handler", handling)
        listen(Request, "__init__", making)
        listen(VirtualMessage, "serializable", restoring)  # the brokers that kombu itself puts a message back into

    def of_message(self, message: Any) -> dict[str, str]:
        """What our header of this message said."""
        return self._of_messages.get(message) or {}

    def of_request(self, request: Any) -> dict[str, str] | None:
        """What our header of this request's message said, to be added to; None where it is no request of a worker's."""
        return self._of_requests.get(request) if isinstance(request, Request) else None

    def request(self, external_id: object, context: Any = None) -> Request | None:
        """The request of this job that was received last, or the one that `context` was made of."""
        newest = self._newest.get(str(external_id))
        if context is None or newest is None or vars(newest).get("_context") is context:
            return newest
        found = (request for request in tuple(self._of_requests) if vars(request).get("_context") is context)
        return next(found, newest)

    def _take(self, message: Any) -> None:
        headers = message.headers
        if type(headers) is dict and HEADER in headers:
            note = written(headers)
            note.pop(RUN, None)  # it is for us to name it
            self._of_messages[message] = note
            message.headers = {name: value for name, value in headers.items() if name != HEADER}

    def _keep(self, request: Request, message: Any) -> None:
        self._of_requests[request] = dict(self.of_message(message))
        self._newest[str(request.id)] = request
