"""The id that the sender of a request has chosen for what is made: only pages of this server do, no header has it."""

from __future__ import annotations

from fastapi import Request

NEW_ID = "sluice.new_id"
"""The key of the id in the scope of a request."""


def new_id_of(request: Request) -> str | None:
    """Return the id in a request; None: the server chooses one."""
    return request.scope.get(NEW_ID)
