"""The bytes of a request: how many are taken, in which encoding, and no more memory than the limit allows."""

from __future__ import annotations

import zlib

from fastapi import Request
from starlette.requests import ClientDisconnect

from sluice_agent.server.errors import RefusedError

_GZIP = 31  # zlib's window bits for a gzip member with its header and check sum
_MOST_MEMBERS = 1_000  # of a gzip stream; 5 MB in the smallest that programs write, bgzip's of 64 kB, are 80
_WINDOW = 65_536  # bytes that zlib is given at a time: it copies what is left of them at the end of each member


async def read_body(request: Request, limit: int) -> bytes:
    """The body as it came, of at most `limit` bytes. Raises `RefusedError` (413) as soon as there are more."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
    except ClientDisconnect:
        raise RefusedError(400, "The body ended early.") from None
    return b"".join(chunks)


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` freed of its content encoding, in at most `limit` bytes and never more in memory on the way.

    Raises `RefusedError`: 413 for more bytes, 415 for another encoding than gzip, 400 for bytes that are not gzip.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _inflated(body, limit)
        case _:
            raise RefusedError(415, "Content-Encoding must be gzip or absent.")


def _inflated(body: bytes, limit: int) -> bytes:
    """`body`, a gzip stream, in time that grows with its size alone, whatever its members hold."""
    inflated = bytearray()
    members = read = 0
    rest = b""  # of the window: what the last member left
    try:
        while rest or read < len(body):
            members += 1
            if members > _MOST_MEMBERS:
                raise RefusedError(400, f"The gzip stream has more than {_MOST_MEMBERS} members.")
            member = zlib.decompressobj(_GZIP)
            while not member.eof:
                if not rest:
                    rest = body[read : read + _WINDOW]
                    read += len(rest)
                    if not rest:
                        raise RefusedError(400, "The gzip stream ends too early.")
                inflated += member.decompress(rest, limit + 1 - len(inflated))
                if len(inflated) > limit:
                    raise _too_large(limit)
                rest = member.unused_data
    except zlib.error as error:
        raise RefusedError(400, f"The body is not gzip: {error}.") from None
    return bytes(inflated)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"The body is larger than {limit} bytes. Send fewer events at a time.")
