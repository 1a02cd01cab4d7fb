"""Marks by which a monitor sees what this process reports itself: on its Celery events and in the reply to `stats`.

They are set only while events can be written to the journal: what an agent can't report, a monitor must report.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from celery.events.dispatcher import EventDispatcher
from celery.worker import WorkController
from celery.worker import state as worker_state

from sluice_agent.lifecycle import agent_fields
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.publish_hook import current_publication

_TASK_SENT = "task-sent"


class AgentMarks:
    """The marks on worker events, on `task-sent`, and in the reply to `inspect stats`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # `can_keep` is not called before the worker is set up: it chooses the directory, and the worker may become
        # another user first.
        worker_state.SOFTWARE_INFO[agent_fields.AGENT] = sink.connection_id

    def renew(self) -> None:
        """Mark the worker events that follow while events can be written; else stop marking them."""
        worker_state.SOFTWARE_INFO[agent_fields.AGENT] = self._sink.connection_id if self._sink.can_keep() else None

    def remove(self) -> None:
        """Mark no further worker events."""
        worker_state.SOFTWARE_INFO.pop(agent_fields.AGENT, None)

    def patch_events_and_stats(self) -> None:
        """Patch the methods that make the messages, to add the marks."""
        mark_sent = guarded(self._sink, self._mark_sent)
        mark_stats = guarded(self._sink, self._mark_stats)

        def around_publish(original: Callable[..., Any]) -> Callable[..., Any]:
            def publish(dispatcher: EventDispatcher, *args: Any, **kwargs: Any) -> Any:
                event = {**dict(zip(("type", "fields", "producer"), args, strict=False)), **kwargs}
                if event.get("type") == _TASK_SENT:
                    mark_sent(event.get("fields"), event.get("producer"))
                return original(dispatcher, *args, **kwargs)

            return publish

        def around_stats(original: Callable[..., Any]) -> Callable[..., Any]:
            def stats(worker: WorkController, *args: Any, **kwargs: Any) -> Any:
                reply = original(worker, *args, **kwargs)
                mark_stats(reply)
                return reply

            return stats

        patch_method(
            EventDispatcher, "publish", around_publish, without="a sidecar reports the jobs of this producer as well"
        )
        patch_method(WorkController, "stats", around_stats, without="a sidecar reports the jobs of this worker as well")

    def _mark_sent(self, fields: Any, producer: Any) -> None:
        publication = current_publication(producer)
        if publication is None or type(fields) is not dict:
            return
        external_id, created_at = publication.created_job
        if created_at and fields.get("uuid") == external_id and self._sink.can_keep():
            fields[agent_fields.AGENT] = self._sink.connection_id
            fields[agent_fields.CREATED_AT] = created_at

    def _mark_stats(self, reply: Any) -> None:
        if type(reply) is not dict:
            return
        reply[agent_fields.AGENT] = {
            agent_fields.CONNECTION: self._sink.connection_id,
            agent_fields.REPORTS: self._sink.can_keep(),
            agent_fields.VERSION: sys.modules["sluice_agent"].__version__,
        }
