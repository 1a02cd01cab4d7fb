"""Messages that are read from the broker and not yet decoded: reading always goes first.

Redis cuts off a subscriber that falls 32 MB behind, so messages are taken off its socket as they are, and decoded when
nothing more is to be read. In a storm they are packed meanwhile: lists of events shrink to a sixth.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from kombu.serialization import loads
from pydantic_core import from_json

_PACK_BEYOND = 1_000_000  # bytes: a short backlog is decoded at once and never packed
_FASTEST = 1  # level of zlib
_OVERHEAD = 250  # bytes of memory that a message takes beside its body
_JSON = "application/json"
_TYPED = b"__type__"  # the key under which kombu's JSON encodes values that JSON has no type for


@dataclass(slots=True)
class Raw:
    """A message as received, with its acknowledgement token, if any; `read_at` is a wall clock time in seconds."""

    body: bytes
    content_type: str
    content_encoding: str
    token: Any
    read_at: float
    is_packed: bool = False


class Backlog:
    """A queue of messages in order of arrival, and the bytes of memory that they take."""

    def __init__(self) -> None:
        self.bytes = 0
        self._messages: deque[Raw] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Raw) -> None:
        """Append `message`, packed where the backlog is long."""
        if self.bytes > _PACK_BEYOND:
            message.body, message.is_packed = zlib.compress(message.body, _FASTEST), True
        self._messages.append(message)
        self.bytes += len(message.body) + _OVERHEAD

    def take(self) -> Raw:
        """Remove and return the oldest message."""
        message = self._messages.popleft()
        self.bytes -= len(message.body) + _OVERHEAD
        return message

    def clear(self) -> None:
        """Discard all messages: the broker delivers them again."""
        self._messages.clear()
        self.bytes = 0


def events_in(message: Raw, accept: Collection[str]) -> Iterator[Any]:
    """Yield the events of a message: workers send them singly or in lists. Raises what its serialiser raises.

    `accept` are content types, as kombu's `prepare_accept_content` returns them.
    """
    body = zlib.decompress(message.body) if message.is_packed else message.body
    if message.content_type == _JSON and _TYPED not in body:
        decoded = _decoded(body)
    else:
        decoded = loads(body, message.content_type, message.content_encoding, accept=accept)
    if isinstance(decoded, list):
        yield from decoded
    else:
        yield decoded


def _decoded(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:  # lone surrogates, for example, which Python's own parser takes
        return json.loads(body)
