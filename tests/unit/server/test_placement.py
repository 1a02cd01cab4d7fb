"""A SQLite file that is removed or replaced under a running server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.support.local_sluice import local_sluice
from tests.unit.server.events import ingest, job_event


def test_a_file_that_is_gone_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What agents send would be answered, and be lost with the next restart: nobody finds a file without a name."""
    caplog.set_level(logging.INFO, "sluice_agent.server")
    path = tmp_path / "s.db"
    with local_sluice(path) as server:
        client = server.client()
        ingest(client, job_event("active", 0))
        away = path.rename(tmp_path / "away.db")
        path.write_bytes(away.read_bytes())  # a copy in its place is another file
        for _ in range(2):
            for response in (client.post("/ingest", json={"events": [job_event("failed", 1)]}), client.get("/health")):
                assert response.status_code == 503
                assert "s.db was moved, removed or replaced" in response.json()["error"]["message"]
                assert response.headers["retry-after"]
        path.unlink()
        assert client.get("/jobs").status_code == 503
        away.rename(path)
        assert ingest(client, job_event("failed", 1))["accepted"] == 1
        assert client.get("/jobs/job-1").json()["state"] == "failed"
    assert [record.levelname for record in caplog.records if "s.db" in record.getMessage()] == ["ERROR", "INFO"]
