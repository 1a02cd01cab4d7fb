"""An event for a destination that does not know duplicates: sent once more at the most where it may have been taken.

Each time is noted in the destination's cursor as the event leaves, so that this holds across restarts, and however a
process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from sluice_agent.log import complain
from sluice_agent.transport.cursor import Cursor
from sluice_agent.transport.destination import Destination
from sluice_agent.transport.responses import TryAgain, Unanswered, Verdict

_MOST_SENDINGS = 2  # of an event whose answer is lost
_MOST_MARKS = 16  # of such events in the cursor: those that were evicted meanwhile would stay


def at_most_twice(destination: Destination, lines: list[bytes], cursor: Cursor, save: Callable[[], None]) -> Verdict:
    """Send the event in `lines`, and note it in `cursor`, which `save` keeps."""
    mark = _mark(lines)
    before = cursor.unconfirmed.get(mark, 0)
    if before >= _MOST_SENDINGS:
        _say_lost(destination, "is dropped")
        return Unanswered("the process that waited for the answer has ended")
    if before:
        _say_lost(destination, "is sent once more, and may be there twice")

    def note_leaving() -> None:
        _note(mark, cursor, before + 1)
        save()

    verdict = destination.send(lines, note_leaving)
    if isinstance(verdict, TryAgain):
        _note(mark, cursor, before)  # it was not taken; the shipper saves that with the failure
    if isinstance(verdict, Unanswered):
        if before + 1 < _MOST_SENDINGS:
            return TryAgain(verdict.why)
        _say_lost(destination, "is dropped")
    return verdict


def forget(lines: list[bytes], cursor: Cursor) -> None:
    """What became of the event in `lines` is settled."""
    if cursor.unconfirmed:
        cursor.unconfirmed.pop(_mark(lines), None)


def _note(mark: str, cursor: Cursor, times: int) -> None:
    """Note how often an event was sent of which nobody knows whether it was taken."""
    before = cursor.unconfirmed.pop(mark, 0)
    if times:
        cursor.unconfirmed[mark] = times
    cursor.counts.resent += (times > 1) - (before > 1)
    while len(cursor.unconfirmed) > _MOST_MARKS:
        del cursor.unconfirmed[next(iter(cursor.unconfirmed))]


def _say_lost(destination: Destination, what: str) -> None:
    complain(
        f"{what} {destination.name}",
        "An answer of %s was lost: the event %s. This is counted.",
        destination.name,
        what,
    )


def _mark(lines: list[bytes]) -> str:
    return blake2b(b"\n".join(lines), digest_size=16).hexdigest()
