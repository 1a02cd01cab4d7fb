"""Subscribers that do not read: they are cut off, cost the others nothing, and resume."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Connection

from sluice_agent.server.protocol import Deadlines, Protocol
from sluice_agent.server.record.frames import Frame
from sluice_agent.server.stream.limits import StreamLimits
from tests.support.frame_source import FrameSource
from tests.support.stream_client import NO_TLS, open_stream
from tests.support.waiting import wait_until
from tests.unit.server.stream.conftest import Serve

LARGE = Frame("queue:snapshot", json.dumps({"name": "x" * 50_000, "depth": 1, "consumers": None}))
COMMITS = 60  # 3 MB: more than the buffers of both ends


class HeldLookUp:
    """A source whose first read ends when the test lets it."""

    def __init__(self, source: FrameSource) -> None:
        self.epoch = source.epoch
        self.subscribe = source.subscribe
        self.may_end = threading.Event()
        self.has_ended = False
        self._source = source

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self.may_end.wait(10)
        with self._source.reading() as reading:
            yield reading
        self.has_ended = True


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(StreamLimits(tick=0.001, subscriber_chunks=8), id="too many chunks"),
        pytest.param(StreamLimits(tick=0.001, subscriber_bytes=300_000), id="too many bytes"),
        pytest.param(
            StreamLimits(tick=0.001, send=0.2, subscriber_chunks=1_000, subscriber_bytes=10**9), id="too slow"
        ),
    ],
)
def test_a_subscriber_that_does_not_read_is_cut_off_and_resumes(
    source: FrameSource, serve: Serve, limits: StreamLimits
) -> None:
    """Each laptop that sleeps with an open page would cost the server memory until it is restarted."""
    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source, limits=limits)
    expected = list(range(1, COMMITS + 1))
    with (
        open_stream(server.url, connectionId=connection_id) as frozen,
        open_stream(server.url, connectionId=connection_id) as healthy,
    ):
        frozen_frames, healthy_frames = frozen.frames(), healthy.frames()
        last_id = next(frozen_frames).id
        next(healthy_frames)
        received = []
        for _ in range(COMMITS):
            source.add(number, [LARGE])
            received.append(next(healthy_frames).position)
        wait_until(lambda: server.connections == 1)
        assert received == expected
        before_the_cut = []
        with suppress(httpx.TransportError):  # the stream breaks off inside a chunk
            for frame in frozen_frames:
                before_the_cut.append(frame.position)
                last_id = frame.id
    with open_stream(server.url, last_id, connectionId=connection_id) as resumed:
        missed = [frame.position for frame in resumed.take(COMMITS - len(before_the_cut))]
    assert len(missed) > 0
    assert before_the_cut + missed == expected


def test_a_subscriber_that_has_left_is_forgotten(source: FrameSource, serve: Serve) -> None:
    """Each page that is closed would leave a subscriber behind, to which nothing is ever sent again."""
    connection_id = str(uuid4())
    source.add_connection(connection_id)
    server = serve(source)
    with open_stream(server.url, connectionId=connection_id) as stream:
        next(stream.frames())
        assert server.hub.open_streams == 1
    wait_until(lambda: server.hub.open_streams == 0)


def test_a_subscriber_that_leaves_before_its_stream_begins_is_no_error(
    source: FrameSource, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages that are closed at once, and proxies that give up, would fill the log with failures of the server."""
    connection_id = str(uuid4())
    source.add_connection(connection_id)
    look_up = HeldLookUp(source)
    server = serve(cast("FrameSource", look_up))
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    with (
        suppress(httpx.ReadTimeout),
        httpx.Client(timeout=httpx.Timeout(5, read=0.1), verify=NO_TLS) as client,
    ):
        client.get(f"{server.url}/events/stream", params={"connectionId": connection_id})
    wait_until(lambda: server.connections == 0)
    look_up.may_end.set()
    wait_until(lambda: look_up.has_ended)
    server.stop()
    assert server.join(5)
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert not caplog.records


def test_a_frozen_reader_does_not_hold_up_a_shutdown(source: FrameSource, serve: Serve) -> None:
    """A restart would take the whole grace period, and the log would show an error, for each laptop that sleeps."""

    class Hasty(Protocol):
        deadlines = Deadlines(shutdown=0.2)

    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source, protocol=Hasty)
    with open_stream(server.url, connectionId=connection_id) as frozen:
        next(frozen.frames())
        source.add(number, [LARGE] * COMMITS)
        wait_until(lambda: server.has_full_buffer)
        server.stop()
        assert server.join(3)
