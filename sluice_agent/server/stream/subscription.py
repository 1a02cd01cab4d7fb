"""The bytes that one subscriber gets: first what it missed, then what is live, without a gap and without a double."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from sluice_agent.log import warn_limited
from sluice_agent.server.store import DATABASE_ERRORS, reason_of
from sluice_agent.server.stream.encoding import encode_position, encode_reset, encode_start
from sluice_agent.server.stream.feed import Feed
from sluice_agent.server.stream.frame_types import Types
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.replay import StoredConnection
from sluice_agent.server.stream.spans import PlacedFrame
from sluice_agent.server.stream.stream_id import position_of
from sluice_agent.server.stream.subscriber import Subscriber


async def subscribe(
    hub: Hub, connection: StoredConnection, types: Types, last_id: str | None, subscriber: Subscriber
) -> AsyncGenerator[bytes, None]:
    """Yield the frames after `last_id`, without an id from the next one on, until the subscriber is ended."""
    feed = hub.feed_of(connection)
    try:
        position = feed.published if last_id is None else position_of(last_id, feed.prefix)
        if position is None or position > max(feed.received, connection.position):
            yield _reset(feed, types, subscriber, None)
        else:
            async for chunk in _resume(hub, feed, types, position, subscriber):
                yield chunk
        while (next_chunk := await subscriber.next_chunk()) is not None:
            yield next_chunk
    except DATABASE_ERRORS as error:
        warn_limited("stream", "The stream can't read frames (%s): its subscribers must resume", reason_of(error))
    finally:
        feed.leave(subscriber, types)


async def _resume(
    hub: Hub, feed: Feed, types: Types, position: int, subscriber: Subscriber
) -> AsyncGenerator[bytes, None]:
    """Yield what was published after `position`, until the subscriber has joined those that get what is live."""
    yield encode_start(feed.prefix, position)
    await hub.catch_up(feed, position)  # another process may have sent what has not arrived here
    if position > feed.published:
        feed.publish()
    while position < feed.published and not subscriber.has_ended:
        missed = await _page(hub, feed, position)
        if not missed or missed[0][0] != position + 1:
            yield _reset(feed, types, subscriber, feed.published - position)
            return
        position = missed[-1][0]
        yield feed.encode(missed, types) or encode_position(feed.prefix, position)
    feed.join(subscriber, types)


async def _page(hub: Hub, feed: Feed, position: int) -> list[PlacedFrame]:
    """Return the next frames after `position` that were published: those from the ring, else from the database."""
    limit = min(hub.limits.page, feed.published - position)
    if feed.recent.reaches(position):
        return feed.recent.after(position, limit)
    span = await hub.read(feed, position, limit)
    return span.placed() if span else []


def _reset(feed: Feed, types: Types, subscriber: Subscriber, missed: int | None) -> bytes:
    """Return the notice that the frames until now can't be sent, and let the subscriber join at this point."""
    position = feed.join(subscriber, types)
    return encode_start(feed.prefix, position) + encode_reset(feed.prefix, position, missed)
