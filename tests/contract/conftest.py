"""A server for the tests of a module, with a connection and an ingest key of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sluice_agent.server.access.setup import AccessOptions
from tests.support.local_sluice import LocalSluice, local_sluice


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server that was started with ``--connection shop``."""
    database = tmp_path_factory.mktemp("server") / "sluice.db"
    with local_sluice(database, options=AccessOptions(connection="shop")) as server:
        yield server
