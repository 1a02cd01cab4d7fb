"""Events for a destination that does not deduplicate: one that may have been taken is sent at most once more.

The destination's cursor records every sending before the request is sent, so that this holds across restarts, however
a process ends.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from sluice_agent.log import warn_limited
from sluice_agent.transport.delivery.client import Connect
from sluice_agent.transport.delivery.responses import TryAgain, Unanswered, Verdict
from sluice_agent.transport.journal.cursor import Cursor

_MAX_SENDS = 2  # of an event whose answer is lost
_MAX_DIGESTS = 16  # of such events in the cursor: those of evicted events would never be removed


class AtMostTwice:
    """A client for a destination that does not deduplicate: it sends no event that may have been taken a third time.

    `cursor` returns the destination's cursor, in which each sending is recorded, and which `save` then writes.
    """

    def __init__(
        self, destination: str, connect: Connect, cursor: Callable[[], Cursor], save: Callable[[], None]
    ) -> None:
        self._destination = destination
        self._client = connect(self._record_send)
        self._cursor = cursor
        self._save = save
        self._digest = ""  # of the event that is being sent, for `_record_send`
        self._sends = 0

    def send(self, lines: list[bytes]) -> Verdict:
        """Send the event in `lines` unless it was sent twice, and return the verdict."""
        cursor, digest = self._cursor(), _digest(lines)
        earlier_sends = cursor.unconfirmed.get(digest, 0)
        if earlier_sends >= _MAX_SENDS:
            self._report_lost_answer("is dropped")
            return Unanswered("the process that waited for the answer has ended")
        if earlier_sends:
            self._report_lost_answer("is sent once more, and may be there twice")
        self._digest, self._sends = digest, earlier_sends + 1
        verdict = self._client.send(lines)
        if isinstance(verdict, TryAgain):
            _set_sends(digest, cursor, earlier_sends)  # it was not taken; the shipper saves the cursor with the failure
        if isinstance(verdict, Unanswered):
            if self._sends < _MAX_SENDS:
                return TryAgain(verdict.reason)
            self._report_lost_answer("is dropped")
        return verdict

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _record_send(self) -> None:
        """Record the sending before the request can arrive."""
        _set_sends(self._digest, self._cursor(), self._sends)
        self._save()

    def _report_lost_answer(self, consequence: str) -> None:
        warn_limited(
            f"{consequence} {self._destination}",
            "An answer of %s was lost: the event %s. This is counted.",
            self._destination,
            consequence,
        )


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


def _digest(lines: list[bytes]) -> str:
    return blake2b(b"\n".join(lines), digest_size=16).hexdigest()
