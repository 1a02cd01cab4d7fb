"""The queue of the jobs API: does a worker take the runs that wait there?"""

from __future__ import annotations

from collections.abc import Iterator

from sluice_agent.doctor.findings import Finding, warning
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.delivery.http import HttpClient, UnreachableError
from sluice_agent.transport.delivery.responses import json_object


def check_jobs_queue(settings: Settings) -> Iterator[Finding]:
    """Ask the server of the jobs API. One that has none, or can't be reached, yields nothing."""
    key = SLUICE.key(settings)
    if key is None:
        return
    client = HttpClient(f"{settings.api_url}/internal/runs/queue", key)
    try:
        response = client.get()
    except UnreachableError:
        return  # check_endpoint reports it
    finally:
        client.close()
    queue = (json_object(response.body) or {}).get("without_workers") if response.status == 200 else None
    if isinstance(queue, str):
        todo = f"start one: celery -A app worker -I sluice_agent.jobs.tasks -Q {queue} -P gevent -c 100"
        yield warning("jobs", f"runs wait in the queue {queue}, and no worker takes from it", todo)
