"""Plain publications: those of jobs whose message has only what most messages have. One function reports each.

Every other takes the ordinary way: `PublishingProcess`. Both ways write the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_agent.lifecycle.encoding import EARLIEST, PlainJobEvents, SharedText, plain_receipt, shared_by_kind
from sluice_agent.lifecycle.identity import cached_scope_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_now
from sluice_agent.signals.agent_header import CREATED_AT, PRIORITY
from sluice_agent.signals.agent_marks import mark_next_task_sent
from sluice_agent.signals.captured_call import options_of_call
from sluice_agent.signals.plain_headers import RARE_IN_PLAIN_JOBS, members_of_ids
from sluice_agent.signals.publish_hook import Publication
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.recorder import Recorder

_MAX_PRIORITY = 255  # the highest of RabbitMQ's, and far above Redis's


class PlainPublications:
    """The reporter of `queued` for plain jobs, just before their message is sent."""

    def __init__(self, sink: Sink, recorder: Recorder) -> None:
        self._sink = sink
        self._recorder = recorder

    def announce(
        self, publication: Publication, task: Mapping[str, Any], exchange: str, routing_key: str
    ) -> dict[str, str] | None:
        """Report `queued`, and return the agent header; None if the job, of these headers, is not a plain one."""
        get, sink = task.get, self._sink
        external_id = task["id"]
        members = members_of_ids(external_id, get("root_id"), get("parent_id"))
        priority = publication.message[1].get("priority")
        if (
            members is None
            or any(map(get, RARE_IN_PLAIN_JOBS))
            or get("delivery_info")
            or not (priority is None or (type(priority) is int and 0 <= priority <= _MAX_PRIORITY))
            or sink.redact is not None
            or sink.is_ignored(publication.name)
            or options_of_call(publication, task)
        ):
            return None
        when = timestamp_now()
        if when <= EARLIEST:
            return None
        agent_header = {CREATED_AT: when}
        if priority is not None:
            agent_header[PRIORITY] = str(priority)
            members += f'"priority":{priority},'
        queue = queue_of(publication.app, {"exchange": exchange, "routing_key": routing_key})
        kind = shared_by_kind(sink.connection_id, publication.name, queue, None, None)
        text = SharedText(f'{kind},"externalId":"{external_id}","attempt":1,"createdAt":"{when}","state":"', members)
        scope = cached_scope_of(sink.connection_id, "")
        mark_next_task_sent(external_id, when)
        publication.reported = PlainJobEvents(external_id, scope, text, when, ""), when
        self._recorder.record_encoded(plain_receipt(external_id, scope, text, when))
        return agent_header
