"""Plain jobs: those whose message has only what most messages have. Each of their signals is handled by one function.

What all events of such a job share is made once, as text, by the main process that receives it. The text travels to the
task process in the agent header, and nothing is read from the request there. Every other job, and every end but a
success without a result, takes the ordinary way: `MainProcess`, `TaskProcess`. Both ways write the same bytes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from time import monotonic, time_ns
from typing import Any

from sluice_agent.lifecycle.encoding import EARLIEST, plain_receipt, plain_start, plain_success, shared_by_kind
from sluice_agent.lifecycle.identity import cached_scope_of, run_in, scope_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_now, timestamp_of_ns
from sluice_agent.model import JobState
from sluice_agent.signals.agent_header import CREATED_AT, HEAD, MEMBERS, PRIORITY, PROCESS, RUN, SUCCESSORS
from sluice_agent.signals.current_runs import EXECUTIONS
from sluice_agent.signals.message_headers import MAX_PRIORITY, max_retries_of
from sluice_agent.signals.plain_headers import plain_members
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.run_names import RunNames

_MEMBERS = frozenset({CREATED_AT, PRIORITY, RUN, SUCCESSORS})
"""The members of the agent header that a plain job may have."""
_MAX_KINDS = 1_000
_ACTIVE, _COMPLETED = JobState.ACTIVE, JobState.COMPLETED


class PlainJobs:
    """Handlers of `task_received`, `task_prerun` and `task_postrun`, given the arguments of the signal.

    Each returns True if it has handled the signal. If not, the ordinary handler must be called: nothing is reported.
    """

    def __init__(self, sink: Sink, names: RunNames, requests: ReceivedRequests) -> None:
        self._sink = sink
        self._run_names = names
        self._requests = requests
        self._kinds: dict[tuple[Any, ...], str] = {}
        """By task, exchange, routing key, worker and connection."""

    def received(self, named: Mapping[str, Any]) -> bool:
        """Name the run that is about to begin, make the text of its events, and report `queued` if no producer has."""
        request, sink = named["request"], self._sink
        fields = request.request_dict
        delivery, members = fields["delivery_info"], plain_members(fields)
        if members is None or delivery["redelivered"] or sink.is_ignored(name := fields["task"]):
            return False
        exchange, routing_key, priority = delivery["exchange"], delivery["routing_key"], delivery["priority"]
        if type(exchange) is not str or type(routing_key) is not str:
            return False
        if priority is not None:
            if type(priority) is not int or abs(priority) > MAX_PRIORITY:
                return False
            members += f'"priority":{priority},'
        agent_header = self._requests.keep(request)
        created = agent_header.get(CREATED_AT, "")
        if created and created <= EARLIEST:
            return False
        if not (created and len(agent_header) == 1) and not agent_header.keys() <= _MEMBERS:
            return False
        hostname, external_id = fields["hostname"], fields["id"]
        kind = self._kinds.get((name, exchange, routing_key, hostname, sink.connection_id))
        if kind is None:
            kind = self._new_kind(request, delivery)
        if created:
            head = f'{kind},"externalId":"{external_id}","attempt":1,"createdAt":"{created}","state":"'
        else:
            head = f'{kind},"externalId":"{external_id}","attempt":1,"state":"'
            scope = cached_scope_of(sink.connection_id, "")
            sink.emit(plain_receipt(external_id, scope, head, members, timestamp_now()))
        agent_header[RUN] = self._run_names.next(hostname)
        agent_header[HEAD], agent_header[MEMBERS] = head, members
        return True

    def _new_kind(self, request: Any, delivery: Mapping[str, Any]) -> str:
        """Return the text that all plain jobs of one task share, from one queue."""
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        name, hostname, connection_id = request.type, request.hostname, self._sink.connection_id
        queue, most = queue_of(request.app, delivery), max_retries_of(request.app.tasks.get(name))
        kind = shared_by_kind(connection_id, name, queue, hostname, most)
        self._kinds[name, delivery["exchange"], delivery["routing_key"], hostname, connection_id] = kind
        return kind

    def started(self, named: Mapping[str, Any]) -> bool:
        """Report `active`."""
        execution = EXECUTIONS.get(threading.get_ident())
        if execution is None:
            return False
        external_id, agent_header = execution.external_id, execution.agent_header
        if execution.has_begun or HEAD not in agent_header or named["task_id"] != external_id:
            execution.release_plain_run()
            return False
        started_ns, started_monotonic = time_ns(), monotonic()
        started, created = timestamp_of_ns(started_ns), agent_header.get(CREATED_AT, "")
        if created > started:  # its producer's clock is ahead
            return False
        sink, run_name = self._sink, agent_header[RUN]
        in_process = run_in(run_name, agent_header[PROCESS]) if PROCESS in agent_header else run_name
        scope = scope_of(sink.connection_id, in_process)
        head, members = agent_header[HEAD], agent_header[MEMBERS]
        execution.plain_run = scope, head, members, created, run_name, started_ns, started_monotonic, started
        execution.has_begun = True
        sink.emit(plain_start(external_id, scope, head, members, started))
        execution.reported = _ACTIVE
        return True

    def succeeded(self, named: Mapping[str, Any]) -> bool:
        """Report `completed`: its time is never earlier than the start, from which the monotonic clock counts."""
        execution = EXECUTIONS.get(threading.get_ident())
        if (
            execution is None
            or execution.reported is not _ACTIVE
            or execution.plain_run is None
            or named["state"] != "SUCCESS"
            or named["task_id"] != execution.external_id
            or self._sink.redact is not None
            or sys.exc_info()[1] is not None  # the result can't be stored
        ):
            return False
        scope, head, members, _, _, started_ns, started_monotonic, started = execution.plain_run
        runtime = monotonic() - started_monotonic
        when = timestamp_of_ns(started_ns + int(runtime * 1e9))
        self._sink.emit(plain_success(execution.external_id, scope, head, members, when, started, runtime))
        execution.reported = _COMPLETED
        return True
