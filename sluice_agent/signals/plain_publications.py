"""Plain publications: those of jobs whose message has only what most messages have. One function reports each.

Every other takes the ordinary way: `PublishingProcess`. Both ways write the same bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sluice_agent.lifecycle.encoding import EARLIEST, plain_receipt, shared_by_kind
from sluice_agent.lifecycle.identity import cached_scope_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_now
from sluice_agent.signals.agent_header import CREATED_AT, PRIORITY, SUCCESSORS
from sluice_agent.signals.captured_call import has_options
from sluice_agent.signals.current_runs import EXECUTIONS, agent_header_here
from sluice_agent.signals.plain_headers import plain_members
from sluice_agent.signals.publish_hook import Publication
from sluice_agent.signals.published_for import CALLS
from sluice_agent.signals.queue_name import queue_of

_MAX_PRIORITY = 255  # the highest of RabbitMQ's, and far above Redis's
_MAX_KINDS = 1_000


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
        self._kinds: dict[str, tuple[Any, Any, str, str, str]] = {}
        """By the name of a task, of its last job: exchange, routing key, connection, shared text, scope of ids."""
        self._reporting: set[int] = set()
        """The threads, or greenlets, that report a job now."""

    def announce(self, publication: Publication, exchange: Any, routing_key: Any) -> bool:
        """Report `queued`, and return True; False if the job is not a plain one, or not all that there is to report.

        A job that begins while its thread reports another takes the ordinary way: a `before_send` hook may publish it,
        and the guard around the ordinary way counts how deep.
        """
        message, name, sink = publication.message, publication.name, self._sink
        task = message[0]
        if (
            (self._reporting and threading.get_ident() in self._reporting)
            or type(task) is not dict
            or (members := plain_members(task)) is None
            or sink.redact is not None
            or CALLS
            or (EXECUTIONS and SUCCESSORS in agent_header_here())
            or "delivery_info" in task
            or has_options(publication, task)
            or sink.is_ignored(name)
        ):
            return False
        priority = message[1].get("priority")
        if priority is not None and not (type(priority) is int and 0 <= priority <= _MAX_PRIORITY):
            return False
        when = timestamp_now()
        if when <= EARLIEST:
            return False
        agent_header = {CREATED_AT: when}
        if priority is not None:
            agent_header[PRIORITY] = str(priority)
            members += f'"priority":{priority},'
        kind = self._kinds.get(name)
        if kind is None or kind[1] != routing_key or kind[0] != exchange or kind[2] != sink.connection_id:
            kind = self._new_kind(publication, exchange, routing_key)
        _, _, _, text, scope = kind
        external_id = task["id"]
        head = f'{text},"externalId":"{external_id}","attempt":1,"createdAt":"{when}","state":"'
        publication.on_failure = self._on_failure
        publication.reported = external_id, scope, head, members, when
        thread = threading.get_ident()
        try:
            self._reporting.add(thread)
            sink.emit(plain_receipt(external_id, scope, head, members, when))
        finally:
            self._reporting.discard(thread)
        if self._message_header:
            publication.agent_header = agent_header
        return True

    def _new_kind(self, publication: Publication, exchange: Any, routing_key: Any) -> tuple[Any, Any, str, str, str]:
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        connection_id, name = self._sink.connection_id, publication.name
        queue = queue_of(publication.app, {"exchange": exchange, "routing_key": routing_key})
        text = shared_by_kind(connection_id, name, queue, None, None)
        kind = exchange, routing_key, connection_id, text, cached_scope_of(connection_id, "")
        self._kinds[name] = kind
        return kind
