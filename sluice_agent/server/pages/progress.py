"""How far work on many jobs or runs is: what the page of a bulk action and that of a replay have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluice_agent.server.pages import formats


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Work on many items, by what has become of them. `progress.html` shows it."""

    title: str
    state: str
    path: str
    """The path of its page; a form that is sent to `stop` below it stops the work."""
    href: str
    """The address of its page, within what the viewer has chosen to see."""
    is_open: bool
    may_stop: bool
    waiting_for: str | None
    """What it waits for."""
    who: str | None
    created_at: str
    finished_at: str | None
    total: int | None
    """None: not counted yet."""
    done: int
    counts: Sequence[tuple[str, int]]
    further: int
    """Items that did not go for reasons that are not listed."""

    @property
    def page_title(self) -> str:
        """The title of the browser's tab: how far it is, or how it has ended."""
        if self.is_open and self.total:
            return f"{self.title} · {formats.number(self.done)} of {formats.number(self.total)}"
        return f"{self.title} · {self.state}"
