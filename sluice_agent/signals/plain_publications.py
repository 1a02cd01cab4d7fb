"""Plain publications: those of jobs whose message has only what most messages have. One function reports each.

Every other takes the ordinary way: `PublishingProcess`. Both ways write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sluice_agent.lifecycle.encoding import EARLIEST, plain_receipt, shared_by_kind
from sluice_agent.lifecycle.identity import cached_scope_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_now
from sluice_agent.signals.agent_header import CREATED_AT, PRIORITY
from sluice_agent.signals.captured_call import options_of_call
from sluice_agent.signals.plain_headers import plain_members
from sluice_agent.signals.publish_hook import Publication
from sluice_agent.signals.published_for import periodic_task, retried
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.replacing import expects_successors

_MAX_PRIORITY = 255  # the highest of RabbitMQ's, and far above Redis's


class PlainPublications:
    """The reporter of `queued` for plain jobs, just before their message is sent."""

    def __init__(
        self,
        sink: Sink,
        on_failure: Callable[[Publication, BaseException], None],
        *,
        message_header: bool = True,
    ) -> None:
        self._sink = sink
        self._on_failure = on_failure
        self._message_header = message_header

    def announce(self, publication: Publication, exchange: Any, routing_key: Any) -> bool:
        """Report `queued`, and return True; False if the job is not a plain one, or not all that there is to report."""
        message = publication.message
        task, properties = message[0], message[1]
        if (
            type(task) is not dict
            or (members := plain_members(task)) is None
            or publication.is_nested  # only the guard around the ordinary way counts how deep
            or retried.get()
            or periodic_task.get()
            or expects_successors()
            or "delivery_info" in task
        ):
            return False
        sink, priority = self._sink, properties.get("priority")
        if (
            not (priority is None or (type(priority) is int and 0 <= priority <= _MAX_PRIORITY))
            or sink.redact is not None
            or sink.is_ignored(publication.name)
            or options_of_call(publication, task)
        ):
            return False
        when = timestamp_now()
        if when <= EARLIEST:
            return False
        external_id, agent_header = task["id"], {CREATED_AT: when}
        if priority is not None:
            agent_header[PRIORITY] = str(priority)
            members += f'"priority":{priority},'
        if exchange == "" and type(routing_key) is str and routing_key:
            queue: str | None = routing_key
        else:
            queue = queue_of(publication.app, {"exchange": exchange, "routing_key": routing_key})
        kind = shared_by_kind(sink.connection_id, publication.name, queue, None, None)
        head = f'{kind},"externalId":"{external_id}","attempt":1,"createdAt":"{when}","state":"'
        scope = cached_scope_of(sink.connection_id, "")
        publication.on_failure = self._on_failure
        publication.plain_job = external_id, scope, head, members, when
        publication.external_id, publication.created_at = external_id, when
        sink.emit(plain_receipt(external_id, scope, head, members, when))
        if self._message_header:
            publication.agent_header = agent_header
        return True
