"""The page that asks before something is done: what that is, in a title and a sentence, and the form that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.pages.render import NO_STORE, Layout, render


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `fields` are hidden ones of the form, which is sent to `action`; `back` is where Cancel leads.
    Without a `button` there is nothing to do: `text` is the reason."""

    title: str
    text: str
    action: str
    button: str | None
    back: str
    fields: Sequence[tuple[str, str]] = ()
    is_danger: bool = False


def ask(request: Request, layout: Layout, question: Question) -> HTMLResponse:
    """Return the page that asks."""
    return render(request, "ask.html", layout, question, headers=NO_STORE)
