"""The agent's shipper and the local Sluice agree on gzip."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from sluice_agent.server.routes import ingest
from sluice_agent.transport.delivery.responses import Settled
from tests.unit.transport.lines import event, sluice_at


def test_the_agent_compresses_once_the_server_has_announced_gzip(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that knows no gzip would refuse every batch; one that does saves its users nine tenths."""
    requests: list[tuple[str, int]] = []
    decode_body: Callable[[bytes, str, int], bytes] = ingest.decode_body

    def recording(body: bytes, encoding: str, limit: int) -> bytes:
        requests.append((encoding, len(body)))
        return decode_body(body, encoding, limit)

    monkeypatch.setattr(ingest, "decode_body", recording)
    agent = sluice_at(f"{client.base_url}ingest")(lambda: None)
    for start in (0, 100):
        verdict = agent.send([event(number) for number in range(start, start + 100)])
        assert verdict == Settled(delivered=100, rejected=0, duplicates=0)
    agent.close()
    assert [encoding for encoding, _ in requests] == ["", "gzip"]
    assert requests[1][1] < requests[0][1] / 5
    assert client.get("/jobs/job-150").json()["state"] == "queued"
