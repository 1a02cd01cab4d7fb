"""The one logger, and the one rule of it: the same complaint at most once a minute."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("sluice_agent")

_SILENCE = 60.0  # seconds between two lines of the same complaint
_last_said: dict[str, float] = {}


def complain(subject: str, message: str, *values: object) -> None:
    """Log `message` as a warning, unless `subject` (one of a few fixed words) was complained of within the minute."""
    now = time.monotonic()
    if now - _last_said.get(subject, -_SILENCE) >= _SILENCE:
        _last_said[subject] = now
        logger.warning(message, *values)
