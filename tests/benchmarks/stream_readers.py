"""Readers of the stream, in a process of their own: `python -m tests.benchmarks.stream_readers URL NUMBER FROZEN`.

Prints `ready` when all streams are open. When a line comes on standard input, it prints one JSON object: the frames
that all readers got, and the delays in milliseconds from an event's time to its arrival at a few of them. FROZEN more
readers never read.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
from datetime import datetime
from urllib.parse import urlsplit

_SAMPLED = 5  # readers that look at each frame's time
_TIMESTAMP = re.compile(rb'event: job:state_change\ndata: .*"timestamp":"([^"]+)"')


class _Reader(asyncio.Protocol):
    """Counts frames; a sampled one also keeps their delays."""

    def __init__(self, request: bytes, delays: list[float] | None) -> None:
        self.frames = 0
        self.is_open = asyncio.get_running_loop().create_future()
        self._request = request
        self._delays = delays

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.is_open.done():
            self.is_open.set_result(None)
        self.frames += data.count(b"\nevent: job")
        if self._delays is not None:
            now = time.time()
            for match in _TIMESTAMP.finditer(data):
                moment = datetime.fromisoformat(match[1].decode().replace("Z", "+00:00")).timestamp()
                self._delays.append(1_000 * (now - moment))


async def _main(url: str, number: int, frozen: int) -> None:
    address = urlsplit(url)
    assert address.hostname is not None
    request = f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    readers = []
    for index in range(number):
        kept = delays if index < _SAMPLED else None
        _, reader = await loop.create_connection(
            lambda kept=kept: _Reader(request, kept), address.hostname, address.port
        )  # type: ignore[misc]
        readers.append(reader)
    await asyncio.gather(*(reader.is_open for reader in readers))
    sleepers = [socket.create_connection((address.hostname, address.port)) for _ in range(frozen)]
    for sleeper in sleepers:
        sleeper.sendall(request)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"frames": sum(reader.frames for reader in readers), "delays": delays}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
