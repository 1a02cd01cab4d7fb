"""What is read from the broker and not yet decoded: reading always goes first.

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

_PACK_BEYOND = 1_000_000  # bytes: what is decoded at once is not packed before
_FASTEST = 1  # zlib's level
_OVERHEAD = 250  # bytes that a message takes here beside its body
_JSON = "application/json"
_TYPED = b"__type__"  # where kombu's JSON holds values that JSON has no form for


@dataclass(slots=True)
class Raw:
    """A message as it came. `token` is the subscription's, `read_at` by the wall clock in seconds."""

    body: bytes
    content_type: str
    content_encoding: str
    token: Any
    read_at: float
    is_packed: bool = False


class Backlog:
    """Messages in the order in which they came, and how many bytes they take."""

    def __init__(self) -> None:
        self.bytes = 0
        self._publications: deque[Raw] = deque()

    def __len__(self) -> int:
        return len(self._publications)

    def add(self, message: Raw) -> None:
        """Behind the others."""
        if self.bytes > _PACK_BEYOND:
            message.body, message.is_packed = zlib.compress(message.body, _FASTEST), True
        self._publications.append(message)
        self.bytes += len(message.body) + _OVERHEAD

    def take(self) -> Raw:
        """The oldest."""
        message = self._publications.popleft()
        self.bytes -= len(message.body) + _OVERHEAD
        return message

    def clear(self) -> None:
        """Forget them: the broker hands them out again."""
        self._publications.clear()
        self.bytes = 0


def events_in(message: Raw, accept: Collection[str]) -> Iterator[Any]:
    """The events of a message: workers send them one by one or in lists. Raises what its serialiser raises.

    `accept` are content types, as kombu's `prepare_accept_content` has them.
    """
    body = zlib.decompress(message.body) if message.is_packed else message.body
    if message.content_type == _JSON and _TYPED not in body:
        decoded = json.loads(body)
    else:
        decoded = loads(body, message.content_type, message.content_encoding, accept=accept)
    if isinstance(decoded, list):
        yield from decoded
    else:
        yield decoded
