"""From a template and its view to a response.

Every text that a template shows is escaped, and characters that are invisible or turn others round become visible.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sluice_agent.server.pages import formats
from sluice_agent.server.pages.assets import accepts_gzip, asset_url
from sluice_agent.server.pages.scope import Scope
from sluice_agent.server.timestamps import timestamp_of, to_moment

PART = "x-sluice-part"
"""The request header by which the script asks for the block ``main`` alone."""

JOBS_API_PATHS = ("/runs", "/dead-letters", "/definitions", "/schedules")
"""The beginnings of the addresses of pages of the jobs API, which are about a project."""

POLLED = ("run",)
"""The types of a page that is live, but whose changes are in no frame of the stream."""

_MACROS = ("parts", "plots", "lists")  # files of macros: templates, and those after it, know each by its name
_COMPRESSED_FROM = 1_000  # bytes
_LEVEL = 5
_LONGEST_TITLE = 160  # characters: a proxy may refuse a header of 4 kB
_HEADERS = {"Cache-Control": "private, no-cache", "Vary": f"Accept-Encoding, Cookie, {PART}"}
Parameters = Mapping[str, "str | int | Sequence[str] | None"]

NO_STORE = {"Cache-Control": "no-store"}
"""The header of a page that no browser keeps: one with a secret, or with arguments and results of a job."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What surrounds the view of a page.

    `page` is the name of its entry in the navigation, and `title` where one is, with the count that matters, such as
    ``Jobs · 12 failed``. `types` are those of the stream that concern the page: without any it is not live.
    `subject` is the id of the only job whose changes concern the page; empty: those of all do.
    `scope` is None on pages without a reader, such as the one for signing in. `project` is what pages of the jobs API
    are about in place of the connection, and `projects` are those to choose from.
    """

    page: str
    title: str
    now: datetime
    scope: Scope | None = None
    types: Sequence[str] = ()
    subject: str = ""
    project: str | None = None
    projects: Sequence[str] = ()

    @property
    def is_polled(self) -> bool:
        """True if the page changes without frames of the stream, so that it is fetched again and again."""
        return self.types == POLLED

    @property
    def window_title(self) -> str:
        """The title as a browser shows it: a name in it may be long, and have characters that turn others round."""
        return formats.without_middle(formats.visible(self.title), _LONGEST_TITLE)

    @property
    def rendered_at(self) -> str:
        """The timestamp of the state that the page shows."""
        return timestamp_of(to_moment(self.now))

    @property
    def connection_id(self) -> str:
        """The id of the connection that the page shows; empty if there is none."""
        return self.scope.connection.id if self.scope is not None and self.scope.connection is not None else ""

    @property
    def reader(self) -> str:
        """The session in which the page is read; empty if its reader has not signed in."""
        who = "" if self.scope is None else self.scope.principal.who
        return who if who.startswith("session ") else ""


def render(
    request: Request,
    template: str,
    layout: Layout,
    view: Any = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Return the page of `template`, or its block ``main`` alone if the request asks for that.

    The template knows `view`, `layout`, the macros of ``parts.html`` as `parts`, and `href`, which makes addresses.
    """
    is_part = request.headers.get(PART) == "main"
    values: dict[str, Any] = {"view": view, "layout": layout, "href": _Hrefs(layout), "is_part": is_part}
    values["has_jobs_api"] = getattr(request.app.state, "has_jobs_api", False)
    for name in _MACROS:
        values[name] = _ENVIRONMENT.get_template(f"{name}.html").make_module(values)
    all_headers = {**_HEADERS, **(headers or {})}
    if is_part:
        all_headers |= {"X-Sluice-Title": quote(layout.window_title), "X-Sluice-Rendered-At": layout.rendered_at}
        all_headers |= {"X-Sluice-Connection": layout.connection_id, "X-Sluice-Reader": layout.reader}
    body = _ENVIRONMENT.get_template(template).render(values).encode()
    if len(body) >= _COMPRESSED_FROM and accepts_gzip(request):
        all_headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, _LEVEL, mtime=0)
    return HTMLResponse(body, status, headers=all_headers)


def url_of(path: str, parameters: Parameters) -> str:
    """Return an address of this server with those `parameters` that have a value."""
    given = {name: value for name, value in parameters.items() if value is not None and value != ""}
    query = urlencode(given, doseq=True)
    return f"{path}?{query}" if query else path


class _Hrefs:
    """Makes the addresses in a page. They name its connection, if there are several, and likewise its project."""

    def __init__(self, layout: Layout) -> None:
        scope = layout.scope
        is_needed = scope is not None and scope.is_ambiguous
        self._connection = {"connectionId": layout.connection_id} if is_needed else {}
        self._project = {"project": layout.project} if len(layout.projects) > 1 else {}

    def __call__(self, path: str, parameters: Parameters | None = None) -> str:
        project = self._project if path.startswith(JOBS_API_PATHS) else {}
        return url_of(path, {**(parameters or {}), **project, **self._connection})


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        auto_reload=False,
        finalize=formats.visible,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        age=formats.age,
        clock_time=formats.clock_time,
        minute_time=formats.minute_time,
        counted=formats.counted,
        duration=formats.duration,
        exact_time=formats.exact_time,
        first_line=formats.first_line,
        full_time=formats.full_time,
        input_time=formats.input_time,
        label=formats.label,
        message_of=formats.message_of,
        number=formats.number,
        relative_time=formats.relative_time,
        share=formats.share,
        seconds=formats.seconds,
        shortened=formats.shortened,
        size=formats.size,
        visible=formats.visible,
    )
    environment.globals["asset"] = asset_url
    return environment


_ENVIRONMENT = _environment()
