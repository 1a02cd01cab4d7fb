"""Fixtures of the transport's tests: a journal's directory, endpoints, and a log that no earlier test suppresses."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.delivery.timing import TIMING, Timing
from tests.support.ackly import Ackly
from tests.support.endpoint import Endpoint
from tests.unit.transport.lines import CONNECTION, sluice_at

SHORT = Timing(first_backoff=0.01, max_backoff=0.01, correction=0.05, takeover_check=0.02, fault_pause=0.05)
"""Waits of milliseconds."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A journal's directory."""
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def ship(directory: Path, endpoint: Endpoint) -> Iterator[Callable[..., Shipper]]:
    """`ship(max_lines=…)`: a shipper of the directory that has started, with short waits; all stop with the test."""
    shippers: list[Shipper] = []

    def start(**options: Any) -> Shipper:
        chosen = {"interval": 0.02, "max_lines": 500, "max_bytes": 1_000_000, "timing": SHORT, **options}
        shippers.append(shipper := Shipper(directory, "sluice", sluice_at(endpoint.url + "/ingest"), **chosen))
        shipper.start()
        return shipper

    yield start
    endpoint.release()
    for shipper in shippers:
        shipper.stop(0)


@pytest.fixture
def ackly() -> Iterator[Ackly]:
    """A fresh Ackly. After the test, no request may have broken its contract."""
    server = Ackly()
    yield server
    server.close()
    assert server.faults == []


@pytest.fixture
def start(directory: Path, ackly: Ackly, endpoint: Endpoint) -> Iterator[Callable[..., Shippers]]:
    """`start(ackly_states=…)`: the shippers to both; all are stopped with the test."""
    started: list[Shippers] = []

    def make(begin: bool = True, timing: Timing = TIMING, **more: Any) -> Shippers:
        options: dict[str, Any] = {
            "api_key": "sk_test",
            "api_url": endpoint.url,
            "connection_id": uuid.UUID(CONNECTION),
            "ackly_ingest_key": ackly.key,
            "ackly_url": ackly.url,
            "flush_interval": 0.05,
        }
        started.append(made := Shippers(Settings(**{**options, **more}), directory, timing=timing))
        if begin:
            made.start()
        return made

    yield make
    endpoint.release()
    for shippers in started:
        shippers.stop(0)
