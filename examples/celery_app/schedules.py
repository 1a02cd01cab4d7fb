"""The shop's schedules, in place of beat's: ``python -m examples.celery_app.schedules``

They are jobs of a local Sluice, which calls their tasks. A deployment runs this once. Whoever changes a schedule there
meanwhile needs no restart, and a report that was missed because the server was stopped is made up for.
"""

import json
import os
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

PROJECT = "shop"
SCHEDULES = (
    {
        "slug": "nightly-sales-report",
        "name": "Nightly sales report",
        "endpoint_url": "celery://reports.nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "cron_overlap_policy": "skip",
        "timeout_secs": 600,
    },
)


def apply(url: str, key: str, project: str = PROJECT) -> None:
    """Make the schedules that are missing, and bring the others up to date, in the jobs API at ``url``."""

    def send(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = Request(url + path, data, headers, method=method)  # noqa: S310 - the address is the shop's own
        with urlopen(request, timeout=30) as response:  # noqa: S310 - the same
            return json.load(response)

    for schedule in SCHEDULES:
        found = send("GET", f"/jobs?{urlencode({'project_id': project, 'slug': schedule['slug']})}")
        if found:
            send("PATCH", f"/jobs/{found[0]['id']}", schedule)
        else:
            send("POST", "/jobs", {**schedule, "project_id": project})


if __name__ == "__main__":
    apply(os.environ["SLUICE_API_URL"].removesuffix("/api") + "/v1", os.environ["SLUICE_API_KEY"])
