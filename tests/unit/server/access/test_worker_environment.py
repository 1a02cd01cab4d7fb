"""The variables that `serve` prints for workers."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from sluice_agent.server.access.setup import AccessOptions, open_access
from sluice_agent.server.access.worker_environment import LOCAL_CONNECTION, worker_environment
from sluice_agent.server.store.database import open_database


def environment(tmp_path: Path, **options: object) -> dict[str, str]:
    """Return the variables of a server with these options."""
    chosen = AccessOptions(**options)  # type: ignore[arg-type]
    engine = open_database(tmp_path / "s.db")
    try:
        access = open_access(engine, chosen, lambda: datetime.now(timezone.utc))
        return worker_environment(f"http://{chosen.host}:8787/api", access, chosen)
    finally:
        engine.dispose()


def test_on_loopback_nothing_is_left_to_choose(tmp_path: Path) -> None:
    """A user would have to find a UUID, and a key that begins with sk_, before the first event."""
    local = {"SLUICE_API_URL": "http://127.0.0.1:8787/api", "SLUICE_CONNECTION_ID": LOCAL_CONNECTION}
    assert environment(tmp_path) == {**local, "SLUICE_API_KEY": "sk_local"}
    assert environment(tmp_path, api_key="sk_own") == {**local, "SLUICE_API_KEY": "sk_own"}


def test_a_key_that_is_not_known_is_left_out(tmp_path: Path) -> None:
    """A user would paste a key that the server refuses."""
    made = environment(tmp_path, connection="shop")
    again = environment(tmp_path, connection="shop")
    assert made["SLUICE_API_KEY"].startswith("sk_local_")
    assert again == {name: value for name, value in made.items() if name != "SLUICE_API_KEY"}


@pytest.mark.parametrize(
    ("names", "url"),
    [(("sluice.example.com",), "http://sluice.example.com:8787/api"), (("[::2]:80",), "http://[::2]:80/api")],
)
def test_a_server_on_all_addresses_is_named(tmp_path: Path, names: tuple[str, ...], url: str) -> None:
    """0.0.0.0 is an address of the worker's own machine."""
    assert environment(tmp_path, host="0.0.0.0", allowed_hosts=names) == {"SLUICE_API_URL": url}
