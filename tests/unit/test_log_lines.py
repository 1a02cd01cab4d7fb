"""The lines that long-running commands log."""

from __future__ import annotations

import logging

from sluice_agent.commands.logs import TextLines


def test_a_message_is_one_line() -> None:
    """Whoever may send events chooses names that are logged: one with a newline could forge a line of the log."""
    record = logging.makeLogRecord({"msg": "%s failed", "args": ("a\nERROR b\x1b[2J\u202e",), "levelname": "INFO"})
    assert TextLines("%(levelname)s %(message)s").format(record) == r"INFO a\nERROR b\x1b[2J\u202e failed"
