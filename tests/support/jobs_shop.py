"""The jobs API of a small shop: jobs with all settings, runs in every state, and hostile texts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, insert, update

from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.jobs.store.schema import attempt, metadata, run, run_log
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.store.takers import note_takers
from sluice_agent.server.timestamps import to_moment
from tests.support.shop import HOSTILE_TEXT

PROJECT = "shop"
SCHEMA = {
    "type": "object",
    "required": ["to", "template"],
    "properties": {
        "to": {"type": "string", "description": "Who gets it", "minLength": 3},
        "template": {"enum": ["receipt", "reminder", "welcome"]},
        "copies": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        "weight": {"type": "number"},
        "is_test": {"type": "boolean", "default": False},
        "values": {"type": "object", "properties": {"name": {"type": "string"}}},
        "copy_to": {"type": "array", "items": {"type": "string"}, "description": "Who gets a copy"},
        "flags": {"type": "array", "items": {"enum": ["urgent", "signed"]}},
        "parts": {"type": "array", "items": {"type": "object"}},
    },
    "additionalProperties": False,
}
PAYLOAD = {"to": "ann@example.com", "template": "receipt", "values": {"name": "Ann"}}
_SECOND = 1_000_000
_LINES = 120  # of the log of a run
_LEVELS = ("warning", "info", "debug", "error")
_HEADS = {
    "url": "https://mail.example.com/hooks/send",
    "request_headers": {"content-type": "application/json", "x-run-token": "[redacted]"},
    "status_code": 503,
}


class JobsShop:
    """The jobs of the shop, made by `client`, a client of ``/v1``; `now` is the present."""

    def __init__(self, client: httpx.Client, now: datetime, project: str = PROJECT) -> None:
        self._client = client
        self._now = now
        self._project = project
        self.mail = self._define(
            name="Send mail",
            slug="send-mail",
            description="Sends one mail to a customer.",
            endpoint_url="https://mail.example.com/hooks/send",
            fallback_endpoint_url="https://backup.example.com/hooks/send",
            payload_schema=SCHEMA,
            tags={"team": "shop"},
            max_concurrency=5,
            max_concurrency_per_key=1,
            rate_limit_max=100,
            rate_limit_window_secs=60,
            webhook_url="https://hooks.example.com/ended",
            webhook_secret="a secret of the shop that is long",
            retry_strategy="custom",
            retry_delays_secs=[1, 10, 60],
            run_ttl_secs=3600,
        )
        self.change(self.mail, max_attempts=5, description="Sends one mail to a customer, and a copy to the archive.")
        self.report = self._define(
            name="Nightly report",
            slug="nightly-report",
            cron="30 2 * * *",
            timezone="Europe/Berlin",
            endpoint_url="https://reports.example.com/run",
            execution_window_cron="* 0-6 * * *",
        )
        self.hostile = self._define(
            name=HOSTILE_TEXT[:200],
            slug="hostile",
            description=HOSTILE_TEXT,
            endpoint_url="https://example.com/%3Cscript%3E",
            tags={HOSTILE_TEXT[:60]: HOSTILE_TEXT[:200]},
            payload_schema={"properties": {HOSTILE_TEXT: {"enum": [HOSTILE_TEXT], "description": HOSTILE_TEXT}}},
        )
        self.off = self._define(
            name="Old import", slug="old-import", endpoint_url="https://example.com/i", enabled=False
        )
        self._depend(self.report, self.mail)

    def _define(self, **fields: Any) -> str:
        return str(self._send("POST", "/jobs", {"project_id": self._project, **fields})["id"])

    def plain(self, slug: str = "keyed", **fields: Any) -> str:
        """Define a job without a schema, and return its id."""
        return self._define(name=slug, slug=slug.replace(" ", "-"), endpoint_url="https://example.com/i", **fields)

    def dependent(self, slug: str) -> str:
        """Define a job that waits for the hostile one, and return its id."""
        job = self._define(name=slug, slug=slug, endpoint_url="https://example.com/i")
        self._depend(job, self.hostile)
        return job

    def change(self, job_id: str, **fields: Any) -> None:
        """Change settings of a job."""
        self._send("PATCH", f"/jobs/{job_id}", fields)

    def trigger(self, job_id: str, payload: Any = None, **fields: Any) -> str:
        """Trigger a run, and return its id."""
        body = {"payload": {} if payload is None else payload, **fields}
        return str(self._send("POST", f"/jobs/{job_id}/trigger", body)["id"])

    def fill(self, store: JobsStore) -> dict[str, str]:
        """Make a run in each state, with its attempts, and return their ids by state; and a hostile one."""
        runs = {status.value: self.trigger(self.mail, PAYLOAD) for status in Status}
        runs["hostile"] = self.trigger(self.hostile, {HOSTILE_TEXT: HOSTILE_TEXT}, metadata={"note": HOSTILE_TEXT})
        runs["later"] = self.trigger(self.mail, PAYLOAD, scheduled_at=_text(self._now + timedelta(hours=3)))
        with store.writing() as writer:
            for status in Status:
                self._bring(writer, runs[status.value], status)
            self._bring(writer, runs["hostile"], Status.DEAD_LETTER, HOSTILE_TEXT)
            self._report(writer, runs["executing"], "<script>alert(1)</script>")
            self._report(writer, runs["hostile"], HOSTILE_TEXT)
        return runs

    def _report(self, writer: Connection, run_id: str, text: str) -> None:
        """Add what an endpoint has reported of its run, in debug mode."""
        now = to_moment(self._now)
        progress = json.dumps({"percent": 40.0, "message": "2 of 5 files", "at": now})
        writer.execute(update(run).where(run.c.id == run_id).values(progress=progress, debug_mode=True))
        lines = [
            {"run_id": run_id, "number": number, "attempt": 2, "at": now - (_LINES - number) * _SECOND}
            | {"level": _LEVELS[number % 4], "message": text if number == _LINES else f"File {number}"}
            | {"data": json.dumps({"file": number}) if number == _LINES else None}
            for number in range(1, _LINES + 1)
        ]
        writer.execute(insert(run_log), lines)
        trace = json.dumps({**json.loads(_TRACE), "exchanges": [{**_HEADS, "answer_headers": {"x": text}}]})
        writer.execute(update(attempt).where(attempt.c.run_id == run_id, attempt.c.retries == 0).values(trace=trace))

    def dead_letters(self, store: JobsStore, count: int) -> list[str]:
        """Make so many dead letters, and return their ids."""
        ids = [self.trigger(self.mail, {**PAYLOAD, "to": f"{number}@example.com"}) for number in range(count)]
        with store.writing() as writer:
            for id_ in ids:
                self._bring(writer, id_, Status.DEAD_LETTER)
        return ids

    def die(self, store: JobsStore, ids: list[str]) -> None:
        """Let runs end as dead letters now."""
        with store.writing() as writer:
            ended = {"status": Status.DEAD_LETTER.value, "finished_at": store.moment}
            writer.execute(update(run).where(run.c.id.in_(ids)).values(ended))

    def _bring(self, writer: Connection, run_id: str, status: Status, text: str = "") -> None:
        """Give a run a state, and the attempts that lead there."""
        now = to_moment(self._now)
        values: dict[str, Any] = {"status": status.value, "created_at": now - 90 * _SECOND}
        has_begun = (
            status in TERMINAL and status not in (Status.EXPIRED, Status.CANCELED)
        ) or status is Status.EXECUTING
        if status is Status.DELAYED:
            values |= {"scheduled_at": now + 3_600 * _SECOND}
        if has_begun:
            values |= {
                "started_at": now - 60 * _SECOND,
                "first_started_at": now - 80 * _SECOND,
                "attempt": 2,
                "retries": 1,
            }
        if status in TERMINAL:
            values |= {"finished_at": now - 50 * _SECOND}
        if status is Status.COMPLETED:
            values |= {"result": json.dumps({"sent": True, "id": "m-1"}), "execution_trace": _TRACE}
        elif status in TERMINAL and has_begun:
            values |= {"error": text or "503: the endpoint is overloaded", "error_class": "server"}
        writer.execute(update(run).where(run.c.id == run_id).values(**values))
        if has_begun:
            first = {"retries": 0, "attempt": 1, "started_at": now - 80 * _SECOND, "finished_at": now - 75 * _SECOND}
            failed = {"status_code": 503, "error_class": "server", "error": text or "503: the endpoint is overloaded"}
            second = {"retries": 1, "attempt": 2, "started_at": now - 60 * _SECOND}
            end = {"finished_at": now - 50 * _SECOND} if status in TERMINAL else {"finished_at": None}
            outcome = {"status_code": 200} if status is Status.COMPLETED else failed if status in TERMINAL else {}
            for values in ({**first, **failed}, {**second, **end, **outcome}):
                writer.execute(insert(attempt).values(run_id=run_id, trace=_TRACE, **values))

    def _depend(self, job_id: str, on: str) -> None:
        self._send("POST", f"/jobs/{job_id}/dependencies", {"depends_on_job_id": on})

    def _send(self, method: str, path: str, body: Any) -> Any:
        response = self._client.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()


_TRACE = json.dumps({"connect_ms": 12, "ttfb_ms": 240, "transfer_ms": 3, "dispatch_ms": 255, "total_ms": 260})


def fill_jobs(client: httpx.Client, database: Path, project: str = PROJECT) -> None:
    """Fill the jobs API of a server with the shop, whose ids are ``job-mail`` and ``run-dead-letter``, for example."""
    now = datetime.now(timezone.utc)
    store = JobsStore(database, lambda: datetime.now(timezone.utc))
    shop = JobsShop(client, now, project)
    runs = shop.fill(store)
    without_workers(store, "sluice.jobs")
    jobs = {"mail": shop.mail, "report": shop.report, "hostile": shop.hostile}
    names = {id_: f"job-{name}" for name, id_ in jobs.items()}
    names |= {id_: f"run-{name.replace('_', '-')}" for name, id_ in runs.items()}
    replay = client.post("/replays", json={"project_id": project, "job_id": shop.hostile})
    names[replay.json()["id"]] = "replay-hostile"
    with store.writing() as writer:
        for table in metadata.sorted_tables:
            for column in table.c:
                if column.name in _IDS or (table.name in ("job", "run", "replay") and column.name == "id"):
                    for id_, name in names.items():
                        writer.execute(update(table).where(column == id_).values({column.name: name}))
    store.close()


_IDS = ("job_id", "depends_on_job_id", "run_id")


def without_workers(store: JobsStore, queue: str | None) -> None:
    """Record that no worker takes from a queue."""
    with store.writing() as writer:
        note_takers(writer, queue)


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
