"""The body of a request: limited in size before and after decompression, and in memory."""

from __future__ import annotations

import zlib

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_agent.server.errors import RefusedError

_GZIP = 31  # zlib's window bits for a gzip member with its header and check sum
_MAX_MEMBERS = 1_000  # of a gzip stream; 5 MB in the smallest that programs write, bgzip's of 64 kB, have 80
_CHUNK = 65_536  # bytes passed to zlib at a time: it copies the unused ones at the end of each member


class BodyLimit:
    """Refuse the body of any request as soon as it is larger than `limit` bytes, whichever route reads it.

    Of all requests together, `total` bytes are held; a body that exceeds them is refused too.
    """

    def __init__(self, app: ASGIApp, limit: int, total: int) -> None:
        self._app = app
        self._limit = limit
        self._total = total
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            received = len(message.get("body", b""))
            size += received
            self._held += received
            if size > self._limit:
                raise HTTPException(413, f"The body is larger than {self._limit} bytes. Send fewer events at a time")
            if self._held > self._total:
                raise HTTPException(503, "The server is busy: send the request again", headers={"Retry-After": "1"})
            return message

        try:
            await self._app(scope, receive_limited, send)
        finally:
            self._held -= size


async def read_body(request: Request) -> bytes:
    """Return the body as received, of which `request` keeps no copy. Its size is limited by `BodyLimit`."""
    try:
        return b"".join([chunk async for chunk in request.stream()])
    except ClientDisconnect:
        raise RefusedError(400, "The body ended early.") from None


def decode_body(body: bytes, encoding: str, limit: int) -> bytes:
    """Return `body` without its content encoding: at most `limit` bytes, and never more in memory on the way.

    Raises `RefusedError`: 413 for more bytes, 415 for another encoding than gzip, 400 for bytes that are not gzip.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _decompress(body, limit)
        case _:
            raise RefusedError(415, "Content-Encoding must be gzip or absent.")


def _decompress(body: bytes, limit: int) -> bytes:
    """Decompress `body`, a gzip stream, in time that grows only with its size, whatever its members contain."""
    decompressed = bytearray()
    members = offset = 0
    remaining = b""  # bytes of the chunk after the last member
    try:
        while remaining or offset < len(body):
            members += 1
            if members > _MAX_MEMBERS:
                raise RefusedError(400, f"The gzip stream has more than {_MAX_MEMBERS} members.")
            member = zlib.decompressobj(_GZIP)
            while not member.eof:
                if not remaining:
                    remaining = body[offset : offset + _CHUNK]
                    offset += len(remaining)
                    if not remaining:
                        raise RefusedError(400, "The gzip stream ends too early.")
                decompressed += member.decompress(remaining, limit + 1 - len(decompressed))
                if len(decompressed) > limit:
                    raise _too_large(limit)
                remaining = member.unused_data
    except zlib.error as error:
        raise RefusedError(400, f"The body is not gzip: {error}.") from None
    return bytes(decompressed)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"The body is larger than {limit} bytes. Send fewer events at a time.")
