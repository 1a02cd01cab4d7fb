"""The requests that a worker's main process holds. The agent header is removed from each message and kept here.

So no receiver in this process sees it: not in the message, not in the request, not in what Celery makes from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import ref

from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.transport.virtual import Message as VirtualMessage

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.agent_header import HEADER, OF_ONE_RUN, PROCESS, RUN, pop_last, read_header, received_header
from sluice_agent.signals.guard import guarded, guarded_plain
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.worker_pool import WorkerPool

_KEPT = "_sluice_agent"
"""The attribute of a request that is its agent header: it is freed with the request, at no cost."""
_NONE: dict[str, str] = {}
_FEW = 1_000


class ReceivedRequests:
    """The agent header of each request that the worker has made from a message."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._newest: dict[str, ref[Request]] = {}
        """The request of each job that was received last, by the job's id. Some are freed: see `_remove_freed`."""
        self._older: list[ref[Request]] = []
        """Requests that were not freed when their job was received again."""
        self._room = _FEW
        """The number of newest requests from which `_remove_freed` is called."""
        self._current: tuple[Any, dict[str, str]] | None = None
        """The message that the worker handles now, and its agent header."""

    def patch(self, sink: Sink) -> None:
        """Remove the agent header from each message before the worker handles it; restore it if that is sent again."""

        def take_again(message: Any, headers: dict[str, Any]) -> None:
            self._take_header(message, headers)

        # The guard that counts nested calls costs as much as the header: here it is for a second try only.
        take_header = guarded_plain(sink, guarded(sink, take_again), self._take_header)

        def around_create_task_handler(original: Callable[..., Any]) -> Callable[..., Any]:
            def create_task_handler(consumer: Consumer, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
                handle = original(consumer, *args, **kwargs)

                def on_task_received(message: Any, *args: Any, **options: Any) -> Any:
                    headers = message.headers
                    if type(headers) is dict and HEADER in headers:
                        take_header(message, headers)
                    elif self._current is None:
                        self._current = message, {}
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
        attributes = request.__dict__
        if _KEPT in attributes:  # an interrupted handler runs again
            kept: dict[str, str] = attributes[_KEPT]
            return kept
        current, message = self._current, request.message
        if current is None:  # the worker was started before the handlers were connected
            agent_header = received_header(read_header(message.headers))
        else:
            agent_header = current[1] if current[0] is message else {}
        newest, external_id = self._newest, request.id
        if type(external_id) is not str:
            external_id = str(external_id)
        if external_id in newest:
            self._older.append(newest[external_id])
            self._room -= 1
        newest[external_id] = ref(request)
        if len(newest) >= self._room:
            self._remove_freed()
        attributes[_KEPT] = agent_header
        return agent_header

    def _remove_freed(self) -> None:
        """Remove the requests that are freed: all at once costs a tenth of a call for each."""
        for external_id, reference in tuple(self._newest.items()):
            if reference() is None:
                del self._newest[external_id]
        self._older = [reference for reference in self._older if reference() is not None]
        self._room = 2 * len(self._newest) + _FEW

    def of_message(self, message: Any) -> dict[str, str]:
        """Return the agent header of `message`, if the worker handles that now; else empty."""
        current = self._current
        return current[1] if current is not None and current[0] is message else {}

    def of_request(self, request: Any) -> dict[str, str]:
        """Return the agent header of a worker's `request`, with the pool process that runs it; else empty."""
        agent_header = kept_header(request) if isinstance(request, Request) else _NONE
        if not agent_header or (pid := request.worker_pid) is None or RUN not in agent_header or pid == os.getpid():
            return agent_header
        if self._pool.in_greenlets:  # there it is the number in its process
            return agent_header
        return {**agent_header, PROCESS: str(pid)}

    def of_context(self, context: Any) -> tuple[Request | None, dict[str, str]]:
        """Return the request that Celery has made `context` from, if it is held, and `of_request` of it.

        One job may have several: its message was delivered twice, or it was retried and is received again already.
        """
        newest = self.request(context.id)
        if newest is not None and vars(newest).get("_context") is context:
            return newest, self.of_request(newest)
        current = self._current
        if current is not None and current[0].properties.get("correlation_id") == context.id:
            return None, current[1]  # the worker rejects the message before it announces its receipt
        found = self._find(lambda request: vars(request).get("_context") is context) or newest
        return found, self.of_request(found)

    def request(self, external_id: object) -> Request | None:
        """Return the request of this job that was received last."""
        reference = self._newest.get(str(external_id))
        return reference() if reference is not None else None

    def _take_header(self, message: Any, headers: dict[str, Any]) -> bool:
        clean = headers.copy()  # with the memory transport they are the producer's own object
        agent_header = received_header(pop_last(clean, HEADER))
        self._current = message, agent_header
        if isinstance(message, VirtualMessage):
            message.sluice_header = agent_header  # kombu may send it again when its request is freed
        message.headers = clean
        return True

    def _find(self, matches: Callable[[Request], bool]) -> Request | None:
        """Search all requests that are held: for rare cases."""
        requests = (reference() for reference in (*self._newest.values(), *self._older))
        return next((request for request in requests if request is not None and matches(request)), None)


def kept_header(request: Request) -> dict[str, str]:
    """Return the agent header of a worker's `request`; empty if it has none."""
    agent_header: dict[str, str] = request.__dict__.get(_KEPT, _NONE)
    return agent_header


def _header_to_restore(message: VirtualMessage) -> dict[str, str]:
    """Return the agent header with which `message` was published; empty if it had none."""
    agent_header = getattr(message, "sluice_header", {})
    return {name: value for name, value in agent_header.items() if name not in OF_ONE_RUN}
