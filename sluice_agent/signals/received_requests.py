"""The requests that a worker's main process holds. The agent header is removed from each message and kept here.

So no receiver in this process sees it: not in the message, not in the request, not in what Celery makes from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary, ref

from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.transport.virtual import Message as VirtualMessage

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.agent_header import HEADER, PROCESS, RUN, read_header
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.worker_pool import WorkerPool


class ReceivedRequests:
    """The agent header of each request that the worker has made from a message; removed when the request is freed."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._agent_headers: dict[ref[Request], dict[str, str]] = {}
        self._newest: WeakValueDictionary[str, Request] = WeakValueDictionary()
        self._current: tuple[Any, dict[str, str]] | None = None
        """The message that the worker handles now, and its agent header."""

    def patch(self, sink: Sink) -> None:
        """Remove the agent header from each message before the worker handles it; restore it if that is sent again."""
        take = guarded(sink, self._take)

        def around_create_task_handler(original: Callable[..., Any]) -> Callable[..., Any]:
            def create_task_handler(consumer: Consumer, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
                handle = original(consumer, *args, **kwargs)

                def on_task_received(message: Any, *args: Any, **options: Any) -> Any:
                    take(message)
                    try:
                        return handle(message, *args, **options)
                    finally:
                        self._current = None

                return on_task_received

            return create_task_handler

        def around_serializable(original: Callable[..., Any]) -> Callable[..., Any]:
            def serializable(message: VirtualMessage, *args: Any, **kwargs: Any) -> Any:
                content = original(message, *args, **kwargs)
                headers = content.get("headers") if isinstance(content, dict) else None
                if not isinstance(headers, dict):
                    return content
                agent_header = _header_to_restore(message)
                return {**content, "headers": {**headers, HEADER: agent_header}} if agent_header else content

            return serializable

        patch_method(
            Consumer,
            "create_task_handler",
            around_create_task_handler,
            without="tasks see the agent's header, and a job is reported as queued once more when a worker receives it",
        )
        patch_method(
            VirtualMessage,
            "serializable",
            around_serializable,  # for brokers to which kombu itself returns a message
            without="a job that a stopping worker returns to its queue is reported as newly created",
        )

    def keep(self, request: Request) -> dict[str, str]:
        """Store and return the agent header of the message of a new `request`; the caller may add members to it."""
        if self._current is None:  # the worker was started before the handlers were connected
            agent_header = _received_header(request.message.headers)
        else:
            agent_header = self.of_message(request.message)
        self._agent_headers[ref(request, self._agent_headers.pop)] = agent_header
        self._newest[str(request.id)] = request
        return agent_header

    def of_message(self, message: Any) -> dict[str, str]:
        """Return the agent header of `message`, if the worker handles that now; else empty."""
        current = self._current
        return current[1] if current is not None and current[0] is message else {}

    def of_request(self, request: Any) -> dict[str, str]:
        """Return the agent header of a worker's `request`, with the pool process that runs it; else empty."""
        agent_header = (self._agent_headers.get(ref(request)) or {}) if isinstance(request, Request) else {}
        if RUN not in agent_header or request.worker_pid in (None, os.getpid()) or self._pool.in_greenlets:
            return agent_header  # of a greenlet, `worker_pid` is the number in its process
        return {**agent_header, PROCESS: str(request.worker_pid)}

    def of_context(self, context: Any) -> dict[str, str]:
        """Return `of_request` of the request that Celery has made `context` from."""
        newest = self.request(context.id)
        if newest is not None and vars(newest).get("_context") is context:
            return self.of_request(newest)
        current = self._current
        if current is not None and current[0].properties.get("correlation_id") == context.id:
            return current[1]  # the worker rejects the message before it announces its receipt
        return self.of_request(self._find(lambda request: vars(request).get("_context") is context) or newest)

    def request(self, external_id: object) -> Request | None:
        """Return the request of this job that was received last."""
        return self._newest.get(str(external_id))

    def _take(self, message: Any) -> None:
        headers = message.headers
        if type(headers) is dict and HEADER in headers:
            agent_header = _received_header(headers)
            self._current = message, agent_header
            if isinstance(message, VirtualMessage):
                message.sluice_header = agent_header  # kombu may send it again when its request is freed
            clean = headers.copy()  # with the memory transport they are the producer's own object
            del clean[HEADER]
            message.headers = clean
        elif self._current is None:
            self._current = message, {}

    def _find(self, matches: Callable[[Request], bool]) -> Request | None:
        """Search all requests that are held: for rare cases."""
        requests = (reference() for reference in tuple(self._agent_headers))
        return next((request for request in requests if request is not None and matches(request)), None)


def _received_header(headers: dict[str, Any]) -> dict[str, str]:
    """Return a message's agent header without the run: this process names it, and the pool the process that runs it."""
    agent_header = read_header(headers)
    agent_header.pop(RUN, None)
    agent_header.pop(PROCESS, None)
    return agent_header


def _header_to_restore(message: VirtualMessage) -> dict[str, str]:
    """Return the agent header with which `message` was published; empty if it had none."""
    agent_header = getattr(message, "sluice_header", {})
    return {name: value for name, value in agent_header.items() if name not in (RUN, PROCESS)}
