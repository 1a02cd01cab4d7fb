"""The runs that a worker's main process announces an end of, from the objects that Celery announces it with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery, Task

from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.message_headers import facts_of, max_retries_of
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.run import ReceivedRun
from sluice_agent.signals.run_times import times_of


class ReceivedRuns:
    """Make the `ReceivedRun` of a job that this process has received; None if its task is ignored."""

    def __init__(self, sink: Sink, requests: ReceivedRequests) -> None:
        self._sink = sink
        self._requests = requests

    def of_request(self, request: Any) -> ReceivedRun | None:
        """Return the run of a worker's `request`."""
        agent_header = self._requests.of_request(request)
        return self.of_fields(request.app, request.request_dict, agent_header, request.type, request)

    def of_context(self, task: Task, context: Any) -> ReceivedRun | None:
        """Return the run of the request that Celery has made `context` from."""
        request, agent_header = self._requests.of_context(context)
        return self.of_fields(task.app, vars(context), agent_header, task.name, request)

    def of_job(self, task: Task, external_id: str) -> ReceivedRun | None:
        """Return the run of the job `external_id` of `task`; None as well if this process does not hold its request."""
        if task.request.id == external_id:
            return self.of_context(task, task.request)
        request = self._requests.request(external_id)
        return None if request is None else self.of_request(request)

    def of_fields(
        self,
        app: Celery,
        fields: Mapping[str, Any],
        agent_header: Mapping[str, str],
        name: str,
        request: Any = None,
    ) -> ReceivedRun | None:
        """Return the run of a job whose message has these `fields`; None as `request` if Celery has made none of it."""
        if self._sink.is_ignored(name):
            return None
        return ReceivedRun(self.events_of(app, fields, agent_header, name), *times_of(request))

    def events_of(
        self, app: Celery, fields: Mapping[str, Any], agent_header: Mapping[str, str], name: str
    ) -> JobEvents:
        """Return the events of a job whose message has these `fields`."""
        facts = facts_of(
            fields,
            agent_header,
            name=name,
            queue=queue_of(app, fields.get("delivery_info")),
            worker_id=fields.get("hostname"),
            max_retries=max_retries_of(app.tasks.get(name)),
        )
        return JobEvents(self._sink.connection_id, facts)
