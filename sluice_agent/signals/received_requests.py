"""The messages that a worker's main process has in hand: our header is taken off each and kept here.

So no receiver in this process meets it, in the message, the request, or what Celery makes of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary, ref

from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.transport.virtual import Message as VirtualMessage

from sluice_agent.signals.context import Sink, guarded
from sluice_agent.signals.header import HEADER, PROCESS, RUN, read_header
from sluice_agent.signals.patching import patch_method


class ReceivedRequests:
    """What our header said, by the request that the worker makes of a message. It goes when the request goes.

    `in_greenlets` returns whether the worker runs its jobs in greenlets, to which Celery gives numbers of their own.
    """

    def __init__(self, in_greenlets: Callable[[], bool]) -> None:
        self._in_greenlets = in_greenlets
        self._agent_headers: dict[ref[Request], dict[str, str]] = {}
        self._newest: WeakValueDictionary[str, Request] = WeakValueDictionary()
        self._handled: tuple[Any, dict[str, str]] | None = None
        """The message that the worker looks at now, and what our header of it said."""

    def patch(self, sink: Sink) -> None:
        """Take our header off each message before the worker looks at it, and back on where it is to be sent again."""
        take = guarded(sink, self._take)

        def handling(original: Callable[..., Any]) -> Callable[..., Any]:
            def create_task_handler(consumer: Consumer, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
                handle = original(consumer, *args, **kwargs)

                def on_task_received(message: Any, *more: Any, **options: Any) -> Any:
                    take(message)
                    try:
                        return handle(message, *more, **options)
                    finally:
                        self._handled = None

                return on_task_received

            return create_task_handler

        def restoring(original: Callable[..., Any]) -> Callable[..., Any]:
            def serializable(message: VirtualMessage, *args: Any, **kwargs: Any) -> Any:
                made = original(message, *args, **kwargs)
                headers = made.get("headers") if isinstance(made, dict) else None
                if not isinstance(headers, dict):
                    return made
                agent_header = self._header_to_restore(message)
                return {**made, "headers": {**headers, HEADER: agent_header}} if agent_header else made

            return serializable

        patch_method(
            Consumer,
            "create_task_handler",
            handling,
            without="tasks meet the agent's header, and a job is reported as queued once more as a worker receives it",
        )
        patch_method(
            VirtualMessage,
            "serializable",
            restoring,  # for brokers that kombu itself puts a message back into
            without="a job that a worker puts back as it ends is reported as created anew",
        )

    def keep(self, request: Request) -> dict[str, str]:
        """What our header said of the message that the worker has just made this request of, to be added to."""
        handled = self._handled
        agent_header = handled[1] if handled is not None and handled[0] is request.message else {}
        self._agent_headers[ref(request, self._agent_headers.pop)] = agent_header
        self._newest[str(request.id)] = request
        return agent_header

    def of_message(self, message: Any) -> dict[str, str]:
        """What our header said of the message that the worker looks at now."""
        handled = self._handled
        return handled[1] if handled is not None and handled[0] is message else {}

    def of_request(self, request: Any) -> dict[str, str]:
        """What our header said of this request's message, and which process of a pool has taken it; empty where it is
        no request of a worker's.
        """
        agent_header = (self._agent_headers.get(ref(request)) or {}) if isinstance(request, Request) else {}
        if RUN not in agent_header or request.worker_pid in (None, os.getpid()) or self._in_greenlets():
            return agent_header
        return {**agent_header, PROCESS: str(request.worker_pid)}

    def of_context(self, context: Any) -> dict[str, str]:
        """The same of the request that this is Celery's context of."""
        newest = self.request(context.id)
        if newest is not None and vars(newest).get("_context") is context:
            return self.of_request(newest)
        handled = self._handled
        if handled is not None and handled[0].properties.get("correlation_id") == context.id:
            return handled[1]  # the worker turns it away before it announces that it has received it
        return self.of_request(self._find(lambda request: vars(request).get("_context") is context) or newest)

    def request(self, external_id: object) -> Request | None:
        """The request of this job that was received last."""
        return self._newest.get(str(external_id))

    def _take(self, message: Any) -> None:
        headers = message.headers
        if type(headers) is dict and HEADER in headers:
            agent_header = read_header(headers)
            agent_header.pop(RUN, None)  # it is for us to name it, and for the pool to say who takes it
            agent_header.pop(PROCESS, None)
            self._handled = message, agent_header
            clean = headers.copy()  # in memory, they are the producer's own
            del clean[HEADER]
            message.headers = clean
        elif self._handled is None:
            self._handled = message, {}

    def _header_to_restore(self, message: Any) -> dict[str, str]:
        agent_header = self.of_message(message) or self.of_request(
            self._find(lambda request: getattr(request, "message", None) is message)
        )
        return {name: value for name, value in agent_header.items() if name not in (RUN, PROCESS)}

    def _find(self, is_it: Callable[[Request], bool]) -> Request | None:
        """For what happens seldom: it looks at all that is in hand."""
        held = (found() for found in tuple(self._agent_headers))
        return next((request for request in held if request is not None and is_it(request)), None)
