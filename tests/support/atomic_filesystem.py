"""A patch of kombu's filesystem transport for the tests: a message appears in its directory once it is complete.

In kombu (up to 5.7), a worker may take a file between its creation and its writing: the message is lost, and the
worker ends with "Unrecoverable error: JSONDecodeError", so that the agent can't be tested.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.transport.filesystem import Channel
from kombu.utils.json import dumps


def install() -> None:
    """Make this process publish complete files only."""
    Channel._put = _put


def _put(self: Channel, queue: str, payload: Any, **_: Any) -> None:
    directory, unique = Path(self.data_folder_out), uuid.uuid4()
    draft = directory / f"draft-{unique}"
    draft.write_text(dumps(payload), encoding="utf-8")
    draft.rename(directory / f"{round(monotonic() * 1000)}_{unique}.{queue}.msg")
