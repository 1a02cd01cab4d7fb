"""What a client of the stream gets: the document's events, from where it was, and clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Connection as DatabaseConnection

from sluice_agent.server.access.principal import Principal, Role
from sluice_agent.server.protocol import Deadlines, Protocol
from sluice_agent.server.record.frames import Frame
from sluice_agent.server.store import UnavailableError
from sluice_agent.server.stream.limits import StreamLimits
from tests.support.frame_source import FrameSource, job_frame
from tests.support.stream_client import NO_TLS, open_stream
from tests.unit.server.stream.conftest import Serve, StreamServer

JOB = Frame("job:state_change", '{"id":"a1b2c3d4","name":"send_email","state":"completed","previousState":"active"}')
HEARTBEAT = Frame("worker:heartbeat", '{"id":"d4e5f6a7","hostname":"celery@worker-1","state":"online","activeJobs":3}')
OFFLINE = Frame("worker:state_change", '{"id":"d4e5f6a7","hostname":"celery@worker-1","state":"offline"}')
QUEUE = Frame("queue:snapshot", '{"name":"default","depth":42,"consumers":4}')


class LostSource(FrameSource):
    """A database whose file is gone after `reads`."""

    reads = 1

    @contextmanager
    def reading(self) -> Iterator[DatabaseConnection]:
        """Return a connection for reads, as long as there is the file."""
        if not self.reads:
            raise UnavailableError("frames.db was removed")
        self.reads -= 1
        with super().reading() as reading:
            yield reading


class Connection:
    """A connection of its own for each test, in a database and on a server that the tests of this module share."""

    def __init__(self, source: FrameSource, server: StreamServer) -> None:
        self.source = source
        self.url = server.url
        self.id = str(uuid4())
        self.number = source.add_connection(self.id)

    def add(self, *frames: Frame) -> None:
        self.source.add(self.number, frames)

    def id_of(self, position: int) -> str:
        return frame_id(self.number, position)


def frame_id(connection: int, position: int) -> str:
    return f"epoch-{connection}-{position}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> tuple[FrameSource, StreamServer]:
    source = FrameSource(tmp_path_factory.mktemp("stream") / "frames.db")
    return source, serve(source, limits=StreamLimits(tick=0.05, heartbeat=0.3, page=7))


@pytest.fixture
def connection(shared: tuple[FrameSource, StreamServer]) -> Connection:
    return Connection(*shared)


def test_frames_are_as_documented(connection: Connection) -> None:
    """The dashboard, and every client written from the vendor's document, could not read another form."""
    with open_stream(connection.url, connectionId=connection.id) as stream:
        first = next(stream.frames())
        connection.add(JOB, HEARTBEAT, OFFLINE, QUEUE)
        received = stream.take(4)
        headers = stream.response.headers
    assert (first.id, first.event) == (connection.id_of(0), "")
    assert [Frame(frame.event, frame.data) for frame in received] == [JOB, HEARTBEAT, OFFLINE, QUEUE]
    assert [frame.id for frame in received] == list(map(connection.id_of, range(1, 5)))
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"


def test_the_bytes_are_server_sent_events(connection: Connection) -> None:
    """A browser would ignore a frame whose lines are in another form, and reconnect at once without `retry`."""
    connection.add(JOB)
    url = f"{connection.url}/events/stream"
    with (
        httpx.Client(verify=NO_TLS) as client,
        client.stream(
            "GET", url, params={"connectionId": connection.id, "lastEventId": connection.id_of(0)}
        ) as response,
    ):
        chunks = response.iter_bytes()
        text = b""
        while text.count(b"\n\n") < 2:
            text += next(chunks)
    start, frame = map(connection.id_of, (0, 1))
    assert text.decode() == f"retry: 2000\nid: {start}\n\nid: {frame}\nevent: {JOB.event}\ndata: {JOB.data}\n\n"


def test_only_chosen_types_are_sent_and_heartbeats_always(connection: Connection) -> None:
    """A page of queues would be flooded by jobs; without heartbeats a proxy closes a quiet stream."""
    with open_stream(connection.url, connectionId=connection.id, types="worker,queue") as stream:
        next(stream.frames())
        connection.add(JOB, HEARTBEAT, JOB, QUEUE, JOB)
        received = stream.take(2)
        (heartbeat,) = stream.take(1, heartbeats=True)
    assert [frame.event for frame in received] == ["worker:heartbeat", "queue:snapshot"]
    assert (heartbeat.event, heartbeat.fields) == ("heartbeat", {"timestamp": "2026-02-27T10:30:15.000Z"})
    assert heartbeat.id == connection.id_of(5)  # a subscriber of rare types would otherwise resume from long ago


def test_the_position_moves_on_while_only_other_types_occur(connection: Connection) -> None:
    """A page of queues that loses its connection on a busy system would have to load everything again."""
    with open_stream(connection.url, connectionId=connection.id, types="queue") as stream:
        frames = (frame for frame in stream.frames() if frame.event != "heartbeat")
        next(frames)
        connection.add(QUEUE, *map(job_frame, range(1, 2_000)))
        assert [next(frames).event, next(frames).id] == [QUEUE.event, connection.id_of(2_000)]


def test_the_position_moves_on_through_missed_frames_of_other_types(connection: Connection) -> None:
    """A client of rare types behind a proxy that cuts it off each ten seconds would get a reset at last."""
    connection.add(*map(job_frame, range(1, 21)))
    with open_stream(connection.url, connection.id_of(2), connectionId=connection.id, types="queue") as stream:
        frames = stream.frames()
        received = [next(frames) for _ in range(4)]
    assert {frame.event for frame in received} == {""}
    assert [frame.id for frame in received] == [connection.id_of(position) for position in (2, 9, 16, 20)]


def test_types_may_be_repeated(connection: Connection) -> None:
    """Whoever names two types in two parameters would get one of them, and believe that the other does not occur."""
    with open_stream(connection.url, connectionId=connection.id, types=["worker", "queue"]) as stream:
        next(stream.frames())
        connection.add(HEARTBEAT, JOB, QUEUE)
        assert [frame.event for frame in stream.take(2)] == [HEARTBEAT.event, QUEUE.event]


def test_an_id_of_another_connection_is_a_reset(
    connection: Connection, shared: tuple[FrameSource, StreamServer]
) -> None:
    """A page that switches connections would miss what happened in the new one, or see it twice."""
    other = Connection(*shared)
    for each in (connection, other):
        each.add(*map(job_frame, range(1, 6)))
    with open_stream(connection.url, other.id_of(3), connectionId=connection.id) as stream:
        (reset,) = stream.take(1)
    assert (reset.event, reset.fields, reset.id) == ("stream:reset", {"missed": None}, connection.id_of(5))


@pytest.mark.parametrize(
    ("parameters", "status", "text"),
    [
        ({}, 400, "connectionId"),
        ({"connectionId": "default"}, 400, "connectionId"),
        ({"types": "job,tasks"}, 400, "comma-separated list of job,worker,queue"),
        ({"types": ""}, 400, "comma-separated list"),
        ({"types": "job:state_change"}, 400, "comma-separated list"),
        ({"connectionId": str(uuid4())}, 404, "no connection"),
    ],
)
def test_a_wrong_request_is_refused(connection: Connection, parameters: dict[str, str], status: int, text: str) -> None:
    """A typing error would otherwise look like a system in which nothing happens."""
    query = {"connectionId": connection.id, **parameters} if parameters else {}
    with open_stream(connection.url, **query) as stream:
        body = stream.response.read().decode()
    assert stream.response.status_code == status
    assert text in body


def test_the_key_of_another_connection_does_not_read_this_one(source: FrameSource, serve: Serve) -> None:
    """The key of one team would show the jobs of all others."""
    own, other = str(uuid4()), str(uuid4())
    number = source.add_connection(own)
    source.add_connection(other)
    server = serve(source, principal=Principal("key", Role.VIEWER, frozenset({number})))
    with open_stream(server.url, connectionId=own) as stream:
        assert stream.response.status_code == 200
    with open_stream(server.url, connectionId=other) as stream:
        assert stream.response.status_code == 404


@pytest.mark.parametrize("is_in_the_url", [False, True])
def test_a_subscriber_resumes_after_its_last_frame(connection: Connection, is_in_the_url: bool) -> None:
    """What changed while a laptop slept would be missing on the page, or be shown twice."""
    connection.add(*map(job_frame, range(1, 21)))
    last_id, query_id = (None, connection.id_of(2)) if is_in_the_url else map(connection.id_of, (2, 1))
    with open_stream(connection.url, last_id, connectionId=connection.id, lastEventId=query_id) as stream:
        missed = stream.take(18)
        connection.add(job_frame(21))
        live = stream.take(1)
    assert [frame.position for frame in missed + live] == list(range(3, 22))
    assert [frame.fields["id"] for frame in missed + live] == [f"job-{number}" for number in range(3, 22)]


def test_a_subscriber_resumes_after_a_restart(source: FrameSource, serve: Serve) -> None:
    """Each deployment of the server would lose what happened meanwhile."""
    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    source.add(number, [job_frame(index) for index in range(1, 31)])
    server = serve(source, limits=StreamLimits(tick=0.01, page=7))
    with open_stream(server.url, frame_id(number, 4), connectionId=connection_id, types="job") as stream:
        missed = stream.take(26)
        source.add(number, [job_frame(31)])
        live = stream.take(1)
    assert [frame.position for frame in missed + live] == list(range(5, 32))


@pytest.mark.parametrize(
    ("last_id", "missed"),
    [
        ("epoch-1-3", 17),
        ("epoch-1-21", None),
        ("other-1-3", None),
        ("epoch-2-3", None),
        ("epoch-3", None),  # as older servers sent them
        ("3", None),
        ("epoch-1-99999999999999999999", None),
    ],
)
def test_what_can_not_be_resumed_is_a_reset(
    source: FrameSource, serve: Serve, last_id: str, missed: int | None
) -> None:
    """A page would show old states as if they were current, and not know that it should load them again."""
    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    for first_index in (1, 11):
        source.add(number, [job_frame(index) for index in range(first_index, first_index + 10)])
    source.prune(number, 10)
    server = serve(source)
    with open_stream(server.url, last_id, connectionId=connection_id) as stream:
        first = stream.take(1)
        source.add(number, [job_frame(21)])
        then = stream.take(1)
    assert (first[0].event, first[0].fields, first[0].id) == ("stream:reset", {"missed": missed}, frame_id(number, 20))
    assert [frame.position for frame in then] == [21]


def test_a_subscriber_without_an_id_gets_no_reset(connection: Connection) -> None:
    """The vendor's clients do not know this event: only those that send an id get it."""
    connection.add(JOB)
    with open_stream(connection.url, connectionId=connection.id) as stream:
        next(stream.frames())
        connection.add(QUEUE)
        assert [frame.event for frame in stream.take(1)] == ["queue:snapshot"]


def test_only_progress_and_heartbeats_are_merged_in_a_tick(source: FrameSource, serve: Serve) -> None:
    """A job that reports each per cent would flood the page; a state that is left out would be a wrong history."""

    def progress(job: int, value: float) -> Frame:
        return Frame("job:state_change", f'{{"id":"job-{job}","state":"active","progress":{value}}}')

    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source)
    frames = [progress(1, 0.1), job_frame(1, "active"), HEARTBEAT, progress(2, 0.1), progress(1, 0.2), HEARTBEAT]
    with open_stream(server.url, connectionId=connection_id) as stream:
        next(stream.frames())
        source.add(number, [*frames, job_frame(1, "failed"), QUEUE, QUEUE])
        received = stream.take(7)
    assert [frame.position for frame in received] == [2, 4, 5, 6, 7, 8, 9]


def test_a_stream_outlives_the_deadlines_of_a_response(source: FrameSource, serve: Serve) -> None:
    """Each subscriber would be cut off once a minute."""

    class Impatient(Protocol):
        deadlines = Deadlines(head=0.2, body=0.2, response=0.2)

    connection_id = str(uuid4())
    source.add_connection(connection_id)
    server = serve(source, limits=StreamLimits(heartbeat=0.1), protocol=Impatient)
    with open_stream(server.url, connectionId=connection_id) as stream:
        assert len(stream.take(5, heartbeats=True)) == 5


def test_a_shutdown_ends_streams_at_once(source: FrameSource, serve: Serve) -> None:
    """A server with an open page would take the whole grace period for each restart, and log an error."""
    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source)
    with open_stream(server.url, connectionId=connection_id) as stream:
        frames = stream.frames()
        next(frames)
        source.add(number, [JOB])
        assert next(frames).event == JOB.event
        server.stop()
        assert list(frames) == []  # a proper end
    assert server.join(2)


def test_a_gap_ends_the_stream_and_the_next_one_begins_with_a_reset(source: FrameSource, serve: Serve) -> None:
    """If frames were deleted before this process learned of them, a page would never know that they are missing."""
    connection_id = str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source)
    with open_stream(server.url, connectionId=connection_id) as stream:
        frames = stream.frames()
        next(frames)
        source.add(number, [job_frame(1)])
        last_id = next(frames).id
        source.commit(number, [job_frame(2), job_frame(3)])
        source.prune(number, 3)
        source.add(number, [job_frame(4)])
        assert list(frames) == []  # and the end
    with open_stream(server.url, last_id, connectionId=connection_id) as stream:
        (reset,) = stream.take(1)
    assert (reset.event, reset.fields, reset.id) == ("stream:reset", {"missed": 3}, frame_id(number, 4))


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_lost_database_ends_the_stream(tmp_path: Path, serve: Serve, is_resumed: bool) -> None:
    """A client would otherwise wait for ever, or take a stream that is torn for a fault of the network."""
    source, connection_id = LostSource(tmp_path / "frames.db"), str(uuid4())
    number = source.add_connection(connection_id)
    server = serve(source)
    if is_resumed:
        source.commit(number, [job_frame(1)])
    with open_stream(server.url, frame_id(number, 0) if is_resumed else None, connectionId=connection_id) as stream:
        frames = stream.frames()
        next(frames)
        if not is_resumed:
            source.commit(number, [job_frame(1)])  # it does not arrive
            source.add(number, [job_frame(2)])
        assert list(frames) == []  # and a proper end
