"""A broker in memory whose workers stop at once: `app.conf.broker_transport = PROMPT_BROKER`."""

from __future__ import annotations

from typing import Any

from kombu.transport import memory

PROMPT_BROKER = f"{__name__}:Transport"
_LONGEST_WAIT = 0.05  # seconds; a worker waits two for a message before it looks whether it should stop


class Transport(memory.Transport):
    """Kombu's broker in memory, with short waits for a message."""

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        super().drain_events(connection, _LONGEST_WAIT if timeout is None else min(timeout, _LONGEST_WAIT))
