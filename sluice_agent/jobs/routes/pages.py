"""Pages of lists as clients ask for them, and as they are answered: a bare array, or an envelope if it is wanted."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.store.page import Page, PageRequest, Position
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.timestamps import moment_of

_MOST = 100
_LARGEST = 2**63 - 1  # that a database compares with

_NO_NUL = r"^[^\x00]*$"


def page_request(
    limit: Annotated[int, Query(ge=1, description="At most 100 are returned.")] = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=200, pattern=_NO_NUL, description="`X-Next-Cursor` of the page before, or a time."),
    ] = None,
) -> PageRequest:
    """Return the page that a request asks for. Raises `RefusedError` for a cursor that is none."""
    return PageRequest(min(limit, _MOST), None if not cursor else position_of(cursor))


WantedPage = Annotated[PageRequest, Depends(page_request)]
Envelope = Annotated[bool, Query(description="Answer `{data, next_cursor, has_more}` in place of the array.")]


def page_answer(request: Request, page: Page[dict[str, Any]], *, envelope: bool) -> Response:
    """Return the answer with a page. Where the next one begins is in headers, and in the envelope."""
    cursor = None if page.next is None else cursor_of(page.next)
    body: Any = page.items
    if envelope:
        body = {"data": page.items, **({} if cursor is None else {"next_cursor": cursor}), "has_more": bool(cursor)}
    headers = {}
    if cursor is not None:
        next_page = request.url.include_query_params(cursor=cursor)
        headers = {"Link": f'<{next_page.path}?{next_page.query}>; rel="next"', "X-Next-Cursor": cursor}
    return answer(body, headers=headers)


def cursor_of(position: Position) -> str:
    """Return the cursor of the page that begins after a position."""
    return base64.urlsafe_b64encode(f"{position.value}:{position.id}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> Position:
    """Return the position in a cursor. Raises `RefusedError` (400) if it is none."""
    moment = moment_of(cursor)
    if moment is not None:
        return Position(moment, "")
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        value, _, id_ = text.partition(":")
        position = Position(int(value), id_)
    except (ValueError, binascii.Error):
        raise _not_a_cursor() from None
    if not 0 <= position.value <= _LARGEST or "\0" in id_:
        raise _not_a_cursor()
    return position


def _not_a_cursor() -> RefusedError:
    return RefusedError(400, "The cursor is not one of this list: begin without it.", {"cursor": "not valid"})
