"""``GET /api/queues``, ``GET /api/workers`` and ``GET /api/tasks``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from sluice_agent.model import WorkerState
from sluice_agent.server.queries.pages import page_of, sorted_by
from sluice_agent.server.queries.queues import QueueSort, list_queues
from sluice_agent.server.queries.sorting import SortOrder
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.tasks import list_tasks
from sluice_agent.server.queries.window import Span, window_of
from sluice_agent.server.queries.workers import WorkerSort, list_workers
from sluice_agent.server.routes.closed import answer_of
from sluice_agent.server.routes.documented import READING
from sluice_agent.server.routes.parameters import (
    ConnectionId,
    Direction,
    FrameworkName,
    From,
    Limit,
    PageNumber,
    Range,
    To,
    Viewer,
    connections_for,
)
from sluice_agent.server.routes.responses import QueuePage, ShownWorkerState, TaskList, WorkerPage
from sluice_agent.server.store import Store
from sluice_agent.server.timestamps import to_moment


def statistics_router(store: Store, now: Callable[[], datetime], past_sums: PastSums) -> APIRouter:
    """Return the routes that read queues, workers and tasks from `store`, as they are `now`."""
    router = APIRouter(tags=["statistics"])
    queues_answer, workers_answer, tasks_answer = answer_of(QueuePage), answer_of(WorkerPage), answer_of(TaskList)

    @router.get("/queues", response_model=QueuePage, responses=READING)
    def queues(
        principal: Viewer,
        connection_id: ConnectionId = None,
        framework: FrameworkName = None,
        time_range: Range = "24h",
        begin: From = None,
        end: To = None,
        sort_by: Annotated[QueueSort, Query(alias="sortBy")] = QueueSort.NAME,
        sort_order: Direction = SortOrder.ASC,
        page: PageNumber = 1,
        limit: Limit = 50,
    ) -> Response:
        """List queues."""
        window = window_of(Span(time_range, begin, end), to_moment(now()))
        with store.reading() as reader:
            connections = connections_for(reader, principal, connection_id)
            every = list_queues(reader, connections, window, framework, past_sums)
        return queues_answer(_page(every, sort_by.value, sort_order, page, limit))

    @router.get("/workers", response_model=WorkerPage, responses=READING)
    def workers(
        principal: Viewer,
        connection_id: ConnectionId = None,
        framework: FrameworkName = None,
        state: Annotated[
            ShownWorkerState | None, Query(description="One that is gone for an hour is listed as offline only.")
        ] = None,
        sort_by: Annotated[WorkerSort, Query(alias="sortBy")] = WorkerSort.HOSTNAME,
        sort_order: Direction = SortOrder.ASC,
        page: PageNumber = 1,
        limit: Limit = 50,
    ) -> Response:
        """List workers."""
        with store.reading() as reader:
            connections = connections_for(reader, principal, connection_id)
            every = list_workers(reader, connections, state and WorkerState(state), framework, to_moment(now()))
        return workers_answer(_page(every, sort_by.value, sort_order, page, limit))

    @router.get("/tasks", response_model=TaskList, responses=READING)
    def tasks(
        principal: Viewer,
        connection_id: ConnectionId = None,
        time_range: Range = "1h",
        begin: From = None,
        end: To = None,
    ) -> Response:
        """List the tasks that ran, by name."""
        window = window_of(Span(time_range, begin, end), to_moment(now()))
        with store.reading() as reader:
            connections = connections_for(reader, principal, connection_id)
            every = list_tasks(reader, connections.values(), window, past_sums)
        return tasks_answer({"data": every})

    return router


def _page(items: list[dict[str, Any]], field: str, direction: SortOrder, page: int, limit: int) -> dict[str, Any]:
    is_descending = direction is SortOrder.DESC
    named = sorted_by(items, lambda item: (item["connectionId"], item["id"]), is_descending=False)
    ordered = sorted_by(named, lambda item: item[field], is_descending=is_descending)
    data, pagination = page_of(ordered, page, limit)
    return {"data": data, "pagination": pagination}
