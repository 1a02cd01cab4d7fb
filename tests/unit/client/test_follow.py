"""Following a stream that breaks off: nothing is missing and nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice_agent.client.errors import ApiError, TemporaryError
from sluice_agent.client.follow import BackOff, Change, follow

Script = list[list[bytes] | Exception]
AWAY = TemporaryError("the server can't be reached", "is it running?")


class EndOfScriptError(Exception):
    """The script has no further stream."""


class Server:
    """Answers each request with the next item of a script, and keeps the ids that it was asked for."""

    def __init__(self, script: Script) -> None:
        self.ids: list[str | None] = []
        self.notices: list[str] = []
        self.delays: list[float] = []
        self._script = iter(script)

    @contextmanager
    def open(self, last_id: str | None) -> Iterator[Iterator[bytes]]:
        self.ids.append(last_id)
        item = next(self._script, EndOfScriptError())
        if isinstance(item, Exception):
            raise item
        yield iter(item)

    def follow(self) -> list[Change]:
        changes: list[Change] = []
        with pytest.raises(EndOfScriptError):
            changes.extend(follow(self.open, BackOff(lambda: 1.0), self.delays.append, self.notices.append))
        return changes


def frame(number: int) -> bytes:
    return f'id: e-{number}\nevent: job:state_change\ndata: {{"n":{number}}}\n\n'.encode()


def test_it_goes_on_after_the_last_event_that_was_whole() -> None:
    """Each restart of the server would cost changes, or show some twice."""
    server = Server([[b"retry: 500\nid: e-1\n\n", frame(2), frame(3) + frame(4)[:20]], [frame(4)], AWAY, [frame(5)]])
    events = server.follow()
    assert server.ids == [None, "e-3", "e-4", "e-4", "e-5"]
    assert server.delays[:3] == [0.5, 0.5, 1.0]
    assert server.notices[0] == "The stream broke off: the server ended it. Trying again in 0 s."
    assert server.notices[1] == "The stream goes on."
    assert [event.data["n"] for event in events] == [2, 3, 4, 5]


def test_an_id_without_data_counts_and_an_event_without_an_id_keeps_it() -> None:
    """A stream that breaks off before its first change would begin anew, and miss what came between."""
    server = Server([[b"id: e-7\n\n", b"event: heartbeat\ndata: {}\n\n"], [], []])
    server.follow()
    assert server.ids == [None, "e-7", "e-7", "e-7"]


@pytest.mark.parametrize(("missed", "text"), [("17", "17 changes may"), ("null", "an unknown number of changes may")])
def test_a_gap_is_reported(missed: str, text: str) -> None:
    """A user would take what is shown as complete."""
    server = Server([[f'id: e-9\nevent: stream:reset\ndata: {{"missed":{missed}}}\n\n'.encode()]])
    server.follow()
    assert text in server.notices[0]
    assert server.ids[1] == "e-9"


def test_a_server_that_is_away_at_first_is_an_error() -> None:
    """With a typing error in the address a user would wait for ever."""
    server = Server([AWAY])
    with pytest.raises(TemporaryError):
        list(follow(server.open, BackOff(lambda: 1.0), server.delays.append, server.notices.append))
    assert server.delays == []


def test_a_refusal_ends_it() -> None:
    """With a key that was revoked it would try for ever."""
    server = Server([[frame(1)], ApiError("401")])
    with pytest.raises(ApiError, match="401"):
        list(follow(server.open, BackOff(lambda: 1.0), server.delays.append, server.notices.append))


def test_delays_double_up_to_half_a_minute_and_begin_anew() -> None:
    """A crowd of terminals would keep a server from coming back; one that waits for hours is of no use."""
    back_off = BackOff(lambda: 1.0)
    assert [back_off.next_delay() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    back_off.succeed()
    assert back_off.next_delay() == 1
    assert BackOff(lambda: 0.0).next_delay() == 0.5
