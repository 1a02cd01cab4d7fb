"""The jobs API against its own description: schemathesis sends what the description allows, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from tests.support.examples import examples
from tests.support.local_sluice import local_sluice

OPAQUE = "positive_data_acceptance"  # rules of URLs, cron expressions and schemas are none that a description can have


PHASES = "examples,coverage,fuzzing,stateful" if os.environ.get("FAULTS") == "long" else "fuzzing"
"""All of them take three minutes. No command serves this API yet."""


@pytest.mark.long
def test_no_request_meets_a_500_or_what_is_not_documented(tmp_path: Path) -> None:
    """A generated client would otherwise meet a failure of the server, or an answer that it can't read."""
    options = AccessOptions("0.0.0.0", connection="shop", api_key="sk_of_the_connection")
    with local_sluice(tmp_path / "s.db", options=options, has_jobs=True) as server:
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR)
        header = f"Authorization: Bearer {key.secret}"
        client = server.client({"Authorization": f"Bearer {key.secret}"}, "/v1")
        job = {"project_id": "shop", "name": "Mail", "endpoint_url": "https://example.com/"}
        made = client.post("/jobs/batch", json=[job | {"slug": slug} for slug in "abc"]).json()
        for found in made:
            client.post(f"/jobs/{found['id']}/trigger")
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/v1/openapi.json",
            "--checks=all", f"--max-examples={examples(5)}", f"--phases={PHASES}",
            "--seed=1", "--no-color", "--warnings=off", f"--exclude-checks={OPAQUE}", f"--header={header}",
            "--suppress-health-check=too_slow",  # on a busy machine requests are generated slowly
        ]  # fmt: skip
        finished = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout + finished.stderr
