"""The header Retry-After of a response."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime


def seconds_asked(retry_after: str | None, now: float) -> float:
    """Return the seconds that a Retry-After asks for, a number or a date; 0 if it can't be read.

    `now` is in seconds since 1970.
    """
    if retry_after is None:
        return 0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9])
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0
