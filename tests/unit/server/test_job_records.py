"""Records of jobs with many events: kept, and never older than the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
from sqlalchemy import event

from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.queries.stored_job import find_head
from sluice_agent.server.routes.job_records import JobRecords
from sluice_agent.server.store.database import open_database, reading
from tests.unit.server.conftest import Start
from tests.unit.server.events import at, ingest, job_event


def test_a_record_of_many_events_is_kept_until_the_next_event(start: Start, tmp_path: Path) -> None:
    """A job that is retried each minute for days would take seconds at each look, or be shown as it was."""
    client = start()
    _retry(client, 0, 30)
    engine = open_database(tmp_path / "0.db")
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    records = JobRecords(many=20)

    def record() -> tuple[dict[str, Any], bool]:
        """Return the record, and whether the job's events were read for it."""
        statements.clear()
        with reading(engine, {}) as reader:
            head = find_head(reader, known_connections(reader, None), "job-1")
            assert head is not None
            answer = records.answer(reader, head)
        return msgspec.json.decode(bytes(answer.body)), any("FROM step" in statement for statement in statements)

    shown = client.get("/jobs/job-1").json()
    assert record() == (shown, True)
    ingest(client, job_event("completed", 1, externalId="job-2", event_id="other"))
    other = client.get("/jobs/job-1").json()["recentExecutions"]
    assert [execution["externalId"] for execution in other] == ["job-2"]
    assert record() == ({**shown, "recentExecutions": other}, False)
    _retry(client, 30, 31)
    later = client.get("/jobs/job-1").json()
    assert len(later["stateHistory"]) > len(shown["stateHistory"])
    assert record() == (later, True)
    engine.dispose()


def test_the_records_of_few_events_are_read_anew(start: Start, tmp_path: Path) -> None:
    """Their late events change what came before, and would be missing."""
    client = start()
    _retry(client, 0, 30)
    engine = open_database(tmp_path / "0.db")
    records = JobRecords()
    with reading(engine, {}) as reader:
        head = find_head(reader, known_connections(reader, None), "job-1")
        assert head is not None
        first = records.answer(reader, head)
    late = {"attempt": 5, "startedAt": at(1.04), "extensions": {"note": "late"}}
    ingest(client, job_event("retrying", 1.041, **late, event_id="late"))
    with reading(engine, {}) as reader:
        head = find_head(reader, known_connections(reader, None), "job-1")
        assert head is not None
        assert records.answer(reader, head).body != first.body
    engine.dispose()


def _retry(client: httpx.Client, first: int, last: int) -> None:
    """Report retries with these numbers."""
    for number in range(first, last):
        seconds = 1 + number / 100
        job = {"attempt": number + 1, "startedAt": at(seconds)}
        ingest(client, job_event("retrying", seconds, **job, event_id=str(number)))
