"""The parser of server-sent events, as the HTML standard has them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.client.server_sent_events import ServerSentEvent, parse

STREAM = (
    "retry: 2000\nid: e-1\n\n"
    ": a comment\n\n"
    'event: job:state_change\ndata: {"name":"a\u2028b\u0085c é"}\nid: e-2\n\n'
    "data:first\ndata: second\n\n"
    "id: e-4\nevent: broken off\n"
)
EVENTS = [
    ServerSentEvent("message", "", "e-1", 2_000),
    ServerSentEvent("message", "", None, None),
    ServerSentEvent("job:state_change", '{"name":"a\u2028b\u0085c é"}', "e-2", None),
    ServerSentEvent("message", "first\nsecond", None, None),
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(cuts=st.sets(st.integers(0, 200)))
def test_events_are_the_same_however_they_are_cut(end: str, cuts: set[int]) -> None:
    """A job whose name has an unusual character, or whose bytes come in two parts, would break the stream."""
    content = STREAM.replace("\n", end).encode()
    places = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    chunks = [content[start:stop] for start, stop in pairwise(places)]
    assert list(parse(chunks)) == EVENTS
