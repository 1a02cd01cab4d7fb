"""Tests of faults, on real processes. FAULTS=long repeats random tests a hundred times, and overloads for a minute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.host import Host
from tests.faults.recording import NAME, record
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.fixtures import *  # noqa: F403 - a fixture is found by its name in this module

IS_LONG = os.environ.get("FAULTS") == "long"


@pytest.fixture
def new_host(
    tmp_path: Path, endpoint: Endpoint, sluice_env: dict[str, str]
) -> Iterator[Callable[[Mapping[str, str]], Host]]:
    """`new_host(env)`: make a host with other settings."""
    hosts: list[Host] = []

    def make(env: Mapping[str, str]) -> Host:
        hosts.append(host := Host(tmp_path, endpoint, {**sluice_env, **env}))
        return host

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(new_host: Callable[[Mapping[str, str]], Host]) -> Host:
    """A host whose journal is empty."""
    return new_host({})


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """The connection and the journal of a process that published `EVENTS` tasks and ended."""
    return record(tmp_path_factory.mktemp("recording"))


@pytest.fixture
def recorded(new_host: Callable[[Mapping[str, str]], Host], recording: tuple[str, bytes]) -> Host:
    """A host with that journal."""
    host = new_host({"SLUICE_CONNECTION_ID": recording[0], CAPTURE_LOG: "", "TEST_COST": "1"})
    host.journal.mkdir(mode=0o700)
    (host.journal / NAME).write_bytes(recording[1])
    return host


@pytest.fixture
def repeats() -> Callable[[int, int], int]:
    """`repeats(few, many)`: return the number of repetitions for a random test."""
    return lambda few, many: many if IS_LONG else few
