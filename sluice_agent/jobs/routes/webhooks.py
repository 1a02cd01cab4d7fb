"""``/v1/webhook-deliveries``: the webhooks of runs, and how they are sent again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sluice_agent.jobs.routes.access import Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import DeliveryBody, DeliveryEnvelope, WholeDeliveryBody, responses
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id, OfJob, Project, project_of
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.webhooks import deliveries
from sluice_agent.jobs.webhooks.views import delivery_view, whole_delivery_view
from sluice_agent.server.webhooks.schedule import DeliveryState

_NO_NUL = r"^[^\x00]*$"

OfRun = Annotated[str | None, Query(max_length=64, pattern=_NO_NUL, description="Only of this run.")]
InState = Annotated[DeliveryState | None, Query(description="Only in this state.")]


def webhooks_router(store: JobsStore) -> APIRouter:
    """Return the routes of webhooks."""
    router = APIRouter(prefix="/webhook-deliveries", tags=["webhooks"], route_class=KeyFirst)

    @router.get("", responses=responses(200, list[DeliveryBody] | DeliveryEnvelope))
    def list_deliveries(
        request: Request,
        caller: Sender,
        page: WantedPage,
        project_id: Project = None,
        state: InState = None,
        job_id: OfJob = None,
        run_id: OfRun = None,
        envelope: Envelope = False,
    ) -> Response:
        """List the webhooks of a project's runs, the newest first, each with its last attempt."""
        project = project_of(caller, project_id)
        with store.reading() as reader:
            found = deliveries.list_deliveries(reader, project, page, state=state, job_id=job_id, run_id=run_id)
        return page_answer(request, Page([delivery_view(row) for row in found.items], found.next), envelope=envelope)

    @router.get("/{delivery_id}", responses=responses(200, WholeDeliveryBody, 404))
    def get_delivery(delivery_id: Id, caller: Sender) -> Response:
        """Return a webhook with its body and all attempts."""
        with store.reading() as reader:
            row = deliveries.find_delivery(reader, delivery_id, caller.project)
            return answer(whole_delivery_view(row, deliveries.attempts_of(reader, row.id)))

    @router.post("/{delivery_id}/resend", responses=responses(200, DeliveryBody, 404, 409))
    def resend(delivery_id: Id, caller: Sender) -> Response:
        """Send a webhook again, now, with the same id and body, to the URL that its job has now."""
        with store.writing() as writer:
            row = deliveries.find_delivery(writer, delivery_id, caller.project)
            sent = deliveries.send_webhook_again(writer, row, store.moment)
        return answer(delivery_view(sent))

    return router
