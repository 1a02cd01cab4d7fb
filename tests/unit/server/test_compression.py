"""The agent's shipper and the local Sluice agree on gzip."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from sluice_agent.server import ingest
from sluice_agent.transport.responses import Settled
from sluice_agent.transport.sluice import SluiceEndpoint
from tests.unit.transport.lines import event


def test_the_agent_compresses_once_the_server_has_said_that_it_may(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that knows no gzip would refuse every batch; one that does saves its users nine tenths."""
    seen: list[tuple[str, int]] = []
    decoded: Callable[[bytes, str, int], bytes] = ingest.decoded

    def looking(body: bytes, encoding: str, limit: int) -> bytes:
        seen.append((encoding, len(body)))
        return decoded(body, encoding, limit)

    monkeypatch.setattr(ingest, "decoded", looking)
    agent = SluiceEndpoint(f"{client.base_url}ingest", "sk_test")
    for start in (0, 100):
        verdict = agent.send([event(number) for number in range(start, start + 100)])
        assert verdict == Settled(delivered=100, rejected=0, duplicates=0)
    agent.close()
    assert [encoding for encoding, _ in seen] == ["", "gzip"]
    assert seen[1][1] < seen[0][1] / 5
    assert client.get("/jobs/job-150").json()["state"] == "queued"
