"""A client of the stream that reads frames as a browser does, one connection at a time."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client reads all authorities of the machine


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One frame. `event` is empty for a frame that only sets the id."""

    id: str
    event: str
    data: str

    @property
    def fields(self) -> Any:
        """The data's JSON."""
        return json.loads(self.data)

    @property
    def position(self) -> int:
        """The number at the end of the id."""
        return int(self.id.rpartition("-")[2])


class OpenStream:
    """A stream in progress. Reading fails if nothing comes for the timeout of its client."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def frames(self) -> Iterator[ReceivedFrame]:
        """Yield frames until the server ends the stream."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield ReceivedFrame(fields.get("id", ""), fields.get("event", ""), fields.get("data", ""))
                fields = {}

    def take(self, number: int, *, heartbeats: bool = False) -> list[ReceivedFrame]:
        """Return the next frames, by default without heartbeats and without those that only set the id."""
        taken: list[ReceivedFrame] = []
        for frame in self.frames():
            if frame.event and (heartbeats or frame.event != "heartbeat"):
                taken.append(frame)
            if len(taken) == number:
                break
        return taken


@contextmanager
def open_stream(
    url: str, last_id: str | None = None, timeout: float = 30.0, **parameters: str | list[str]
) -> Iterator[OpenStream]:
    """Open the stream of the API at `url`; a status other than 200 is for the caller."""
    headers = {"Last-Event-ID": last_id} if last_id is not None else {}
    with (
        httpx.Client(timeout=timeout, verify=NO_TLS) as client,
        client.stream("GET", f"{url}/events/stream", params=parameters, headers=headers) as response,
    ):
        yield OpenStream(response)
