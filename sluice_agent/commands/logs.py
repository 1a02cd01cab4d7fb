"""Logging of long-running commands, to standard error: readable lines, or one JSON object per line."""

from __future__ import annotations

import json
import logging
import time
from typing import Literal

from sluice_agent.commands.printable import printable
from sluice_agent.log import logger

LogFormat = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)-7s %(message)s"


class TextLines(logging.Formatter):
    """Formatter with a message in one line: the names in it come from clients, and must not look like other lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging)
        """Return `record` as text, with control characters of its message as escapes."""
        record.message = printable(record.message)
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """Formatter with `time` (UTC), `level`, `logger`, `message` and, if there is one, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line of JSON."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(log_format: LogFormat, level: str) -> None:
    """Log our messages from `level` on, and warnings of other libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines(_TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(level.upper())
