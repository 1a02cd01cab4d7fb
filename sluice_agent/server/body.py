"""The bytes of a request: how many are taken, in which encoding, and no more memory than the limit allows."""

from __future__ import annotations

import zlib

from fastapi import Request
from starlette.requests import ClientDisconnect

from sluice_agent.server.faults import RefusedError

_GZIP = 31  # zlib's window bits for a gzip member with its header and check sum


async def received(request: Request, limit: int) -> bytes:
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
    inflated = b""
    try:
        while body:  # a gzip stream may have several members
            member = zlib.decompressobj(_GZIP)
            inflated += member.decompress(body, limit + 1 - len(inflated))
            if len(inflated) > limit:
                raise _too_large(limit)
            if not member.eof:
                raise RefusedError(400, "The gzip stream ends too early.")
            body = member.unused_data
    except zlib.error as error:
        raise RefusedError(400, f"The body is not gzip: {error}.") from None
    return inflated


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"The body is larger than {limit} bytes. Send fewer events at a time.")
