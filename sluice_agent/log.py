"""The package's logger, and its rule: the same warning at most once a minute."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("sluice_agent")

_INTERVAL = 60.0  # seconds between two warnings of the same subject
last_logged: dict[str, float] = {}
"""The times of the last warnings, by subject."""


def warn_limited(subject: str, message: str, *values: object) -> None:
    """Log `message` as a warning, at most once a minute for each `subject`, which is one of a few fixed words."""
    now = time.monotonic()
    if now - last_logged.get(subject, -_INTERVAL) >= _INTERVAL:
        last_logged[subject] = now
        logger.warning(message, *values)
