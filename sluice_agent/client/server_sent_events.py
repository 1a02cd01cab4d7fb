"""Server-sent events from bytes, as the HTML standard reads them. Pure: no network here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sluice_agent.client.errors import ApiError

_LONGEST_LINE = 10_000_000  # bytes: what has no end is not a stream of events


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One block of a stream. `id` and `retry` (milliseconds) are None, and `data` is empty, where it has none."""

    event: str
    data: str
    id: str | None
    retry: int | None


def parse(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the blocks of a stream that are complete, also those that have no data but an id.

    Raises `ApiError` for a line that is too long.
    """
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            yield _event(fields)
            fields = {}


def _event(fields: dict[str, list[str]]) -> ServerSentEvent:
    ids = [value for value in fields.get("id", ()) if "\0" not in value]
    retry = [int(value) for value in fields.get("retry", ()) if value.isascii() and value.isdigit()]
    return ServerSentEvent(
        event=fields.get("event", ["message"])[-1],
        data="\n".join(fields.get("data", ())),
        id=ids[-1] if ids else None,
        retry=retry[-1] if retry else None,
    )


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield complete lines. They end with LF, CRLF or CR, and with nothing else: U+2028 is a character of the data."""
    rest = b""
    ends_with_cr = False
    for received in chunks:
        chunk = received[1:] if ends_with_cr and received.startswith(b"\n") else received
        if not chunk:
            continue
        ends_with_cr = chunk.endswith(b"\r")
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ApiError("a line of the stream is too long: is this a Sluice?")
        for line in lines:
            yield line.decode("utf-8", "replace")
