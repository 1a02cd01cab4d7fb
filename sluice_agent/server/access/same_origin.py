"""Whether a browser sent a request from a page of this server: no other page may act with its session."""

from __future__ import annotations

from fastapi import Request

from sluice_agent.server.access.exposure import is_secure


def is_from_own_page(request: Request) -> bool:
    """Return whether a page of this server sent `request`, by headers that browsers set and pages can't.

    Over plain HTTP browsers send Sec-Fetch-Site to loopback only. Elsewhere Origin names the server of the page; a
    Referrer-Policy of no-referrer would make that null.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    scheme = "https" if is_secure(request.url.scheme, request.headers) else "http"
    return request.headers.get("origin", "").lower() == f"{scheme}://{request.headers.get('host', '').lower()}"
