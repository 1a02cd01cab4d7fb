"""Events for a destination that does not deduplicate: one that may have been taken is sent at most once more.

The destination's cursor records every sending before the request is sent, so that this holds across restarts, however
a process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from sluice_agent.log import warn_limited
from sluice_agent.transport.delivery.destinations.base import Destination
from sluice_agent.transport.delivery.responses import TryAgain, Unanswered, Verdict
from sluice_agent.transport.journal.cursor import Cursor

_MAX_SENDS = 2  # of an event whose answer is lost
_MAX_DIGESTS = 16  # of such events in the cursor: those of evicted events would never be removed


def at_most_twice(destination: Destination, lines: list[bytes], cursor: Cursor, save: Callable[[], None]) -> Verdict:
    """Send the event in `lines` unless it was sent twice; record that in `cursor`, which `save` writes."""
    digest = _digest(lines)
    earlier_sends = cursor.unconfirmed.get(digest, 0)
    if earlier_sends >= _MAX_SENDS:
        _report_lost_answer(destination, "is dropped")
        return Unanswered("the process that waited for the answer has ended")
    if earlier_sends:
        _report_lost_answer(destination, "is sent once more, and may be there twice")

    def record_send() -> None:
        _set_sends(digest, cursor, earlier_sends + 1)
        save()

    verdict = destination.send(lines, record_send)
    if isinstance(verdict, TryAgain):
        _set_sends(digest, cursor, earlier_sends)  # it was not taken; the shipper saves the cursor with the failure
    if isinstance(verdict, Unanswered):
        if earlier_sends + 1 < _MAX_SENDS:
            return TryAgain(verdict.reason)
        _report_lost_answer(destination, "is dropped")
    return verdict


def forget(lines: list[bytes], cursor: Cursor) -> None:
    """Forget the event in `lines`: it is settled."""
    if cursor.unconfirmed:
        cursor.unconfirmed.pop(_digest(lines), None)


def _set_sends(digest: str, cursor: Cursor, sends: int) -> None:
    """Record how often an event was sent that may have been taken."""
    earlier_sends = cursor.unconfirmed.pop(digest, 0)
    if sends:
        cursor.unconfirmed[digest] = sends
    cursor.counts.resent += (sends > 1) - (earlier_sends > 1)
    while len(cursor.unconfirmed) > _MAX_DIGESTS:
        del cursor.unconfirmed[next(iter(cursor.unconfirmed))]


def _report_lost_answer(destination: Destination, consequence: str) -> None:
    warn_limited(
        f"{consequence} {destination.name}",
        "An answer of %s was lost: the event %s. This is counted.",
        destination.name,
        consequence,
    )


def _digest(lines: list[bytes]) -> str:
    return blake2b(b"\n".join(lines), digest_size=16).hexdigest()
