"""A broker in a directory: kombu's filesystem transport, with atomic publication of messages.

kombu creates a message's file and then fills it, so a worker that reads it in between gets an empty message and stops.
Here a message is written under another name and renamed when it is complete.
"""

import json
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem


class Channel(filesystem.Channel):
    """kombu's channel, except that messages appear atomically."""

    def _put(self, queue: str, payload: dict[str, Any], **_options: Any) -> None:
        directory = Path(self.data_folder_out)
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        draft = directory / f"{name}.draft"
        draft.write_text(json.dumps(payload))
        draft.rename(directory / name)


class Transport(filesystem.Transport):
    """The transport for Celery's setting ``broker_transport``."""

    Channel = Channel


def settings(directory: Path) -> dict[str, Any]:
    """Return Celery's settings for a broker in ``directory``."""
    messages, control, processed = (directory / name for name in ("messages", "control", "processed"))
    for path in (messages, control, processed):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://localhost",
        "broker_transport": f"{__name__}:Transport",
        "broker_transport_options": {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": str(control),
            "processed_folder": str(processed),
            "store_processed": True,
            "polling_interval": 0.05,
        },
        # Without an event loop, which needs a broker with sockets, Celery waits 10 s before it reports a lost process.
        "worker_lost_wait": 1.0,
    }
