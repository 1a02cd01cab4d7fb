"""`python -m tests.benchmarks.black_hole`: an endpoint of jobs that answers at once, and notes when each run came.

It prints its port. A GET returns the times of all requests as JSON, by run, and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import time

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_RUN, _LENGTH = b"x-run-id: ", b"content-length: "


class BlackHole(asyncio.Protocol):
    """One connection."""

    times: dict[str, float] = {}  # noqa: RUF012 - all connections have the same ones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come whole."""
        self._received += data
        while True:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            length = int(_value(head, _LENGTH) or 0)
            if not separator or len(rest) < length:
                return
            self._received = rest[length:]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"GET"):
            body = json.dumps(self.times).encode()
            self.times.clear()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        self.times[_value(head, _RUN).decode()] = time.time()
        return _ANSWER


def _value(head: bytes, name: bytes) -> bytes:
    _, _, rest = head.lower().partition(b"\r\n" + name)
    return rest.partition(b"\r\n")[0]


async def main() -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(BlackHole, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
