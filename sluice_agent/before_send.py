"""The call of a user's `before_send` hook, which is given an `Event`. Imported only where there is a hook."""

from __future__ import annotations

from collections.abc import Callable

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.event import Event
from sluice_agent.lifecycle.redaction import without_stale_mark
from sluice_agent.log import warn_limited

BeforeSend = Callable[[Event], Event | None]


def apply_hook(before_send: BeforeSend, drop: Callable[[str], None], event: bytes) -> bytes:
    """Return the event that the user's hook returns; b"" if the hook drops the event or raises, which `drop` counts."""
    try:
        changed = before_send(Event.model_validate_json(event))
        line = without_stale_mark(changed.to_json(), event) if changed is not None else b""
    except Exception as error:
        if is_asynchronous(error):
            raise
        # The hook may exist to hide data: without its result nothing is sent.
        warn_limited("before_send", "before_send raised %s: %s; the event is dropped.", type(error).__name__, error)
        drop("before_send_error")
        return b""
    if not line:
        drop("before_send")
    return line
