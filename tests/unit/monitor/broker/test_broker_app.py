"""The address of a broker, which may change while it is monitored."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_agent import log
from sluice_agent.monitor.broker.broker_app import AddressFile, BrokerApp


def test_the_last_good_address_is_used_while_the_file_holds_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret that is being written is empty for a moment: the monitor must not connect to localhost instead."""
    file = tmp_path / "broker"
    file.write_text("redis://one:1/0\n")
    app = BrokerApp(AddressFile(file), {})
    assert app.connection_for_read().hostname == "one"
    for content in (b"", b"\xff", b"foo://bar", None):
        log.last_logged.clear()
        caplog.clear()
        file.write_bytes(content) if content is not None else file.unlink()
        assert app.connection_for_write().hostname == "one"
        assert str(file) in caplog.text
    file.write_text("redis://two:2/0")
    assert app.connection_for_read().hostname == "two"
