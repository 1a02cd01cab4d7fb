"""The package's logger, and its rule: the same warning at most once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter

logger = logging.getLogger("sluice_agent")

_INTERVAL = 60.0  # seconds between two warnings of the same subject
last_logged: dict[str, float] = {}
"""The times of the last warnings, by subject."""

_left_out: Counter[str] = Counter()


def warn_limited(subject: str, message: str, *values: object) -> bool:
    """Log `message` as a warning, at most once a minute for each `subject`, which is one of a few fixed words.

    Return whether it was logged.
    """
    if not _is_due(subject):
        return False
    logger.warning(message, *values)
    return True


def log_failure(error: BaseException, message: str, *values: object) -> None:
    """Log `message` as an error, with the stack of `error`: at most once a minute for each line of a program that
    raises such an error. The next one has the number of those that were left out."""
    subject = _origin_of(error)
    if not _is_due(subject):
        _left_out[subject] += 1
        return
    if count := _left_out.pop(subject, 0):
        message, values = f"{message} (%d more failures of this kind were left out of the log)", (*values, count)
    logger.error(message, *values, exc_info=error)


class Limited(logging.Filter):
    """The filter of a logger of another program, which then logs each warning at most once a minute."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is logged."""
        return record.levelno != logging.WARNING or _is_due(f"{record.name} {record.msg}")


def _is_due(subject: str) -> bool:
    now = time.monotonic()
    if now - last_logged.get(subject, -_INTERVAL) < _INTERVAL:
        return False
    last_logged[subject] = now
    return True


def _origin_of(error: BaseException) -> str:
    """Return the type of `error`, and the file and line that raised it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    origin = "" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
    return f"{type(error).__qualname__} {origin}"
