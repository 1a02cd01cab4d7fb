"""What the commands that look at a server share: its address and key, and the text that they print."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import click

from sluice_agent.client.http import ApiClient
from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE

_COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "retrying": "yellow",
    "active": "cyan",
    "online": "green",
    "offline": "red",
}

url_option = click.option("--url", metavar="URL", help="The server's API. [default: SLUICE_API_URL]")


def api_settings(url: str | None, connection: UUID | None = None) -> Settings:
    """Return the settings, with what the command's options set. A key needs no connection here: nothing is sent."""
    options: dict[str, Any] = {"api_url": url, "connection_id": connection}
    return Settings(enabled=False, **{name: value for name, value in options.items() if value is not None})


def api_client(settings: Settings) -> ApiClient:
    """Return a client of the API in `settings`."""
    return ApiClient(settings.api_url, SLUICE.key(settings))


def jobs_client(settings: Settings) -> ApiClient:
    """Return a client of the jobs API of the same server, which is at ``/v1`` beside ``/api``."""
    return ApiClient(f"{settings.api_url.rstrip('/').removesuffix('/api')}/v1", SLUICE.key(settings))


def has_lost_its_reader() -> bool:
    """Return whether standard output is a pipe without a reader, as after ``| head``."""
    if sys.stdout is None:  # it was closed
        return True
    poll = select.poll()
    poll.register(sys.stdout, 0)  # an error is reported in any case
    return any(events & select.POLLERR for _, events in poll.poll(0))


def has_colour() -> bool:
    """Return whether standard output is a terminal on which the user wants colours (https://no-color.org)."""
    if sys.stdout is None:  # it was closed
        return False
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def state_colour(state: str) -> str | None:
    """Return the colour of a state, None for those without one."""
    return _COLOURS.get(state)


def state_text(state: str, label: str | None = None, width: int = 0) -> str:
    """Return `label`, or the state itself, in the state's colour and padded to `width`."""
    text = printable(label or state).ljust(width)
    colour = state_colour(state)
    return click.style(text, fg=colour) if colour and has_colour() else text


def print_line(text: str) -> None:
    """Print to standard output. What its encoding lacks becomes a question mark."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        click.echo(text.encode(encoding, "replace").decode(encoding), color=has_colour())
    except BrokenPipeError:
        raise  # click ends the command
    except OSError as error:
        raise UserError(f"can't write to standard output ({error.strerror})") from None


def duration_text(milliseconds: float) -> str:
    """Return a duration in one unit, such as ``850 ms``, ``6.0 s`` or ``2.5 h``."""
    seconds = milliseconds / 1_000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    for unit, size in (("s", 1), ("min", 60), ("h", 3_600)):
        if seconds < {"s": 120, "min": 7_200}.get(unit, 172_800):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def table(rows: Sequence[Sequence[str]], state_column: int) -> list[str]:
    """Return `rows` as lines in columns, each as wide as its longest text. One column has states."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        cells[state_column] = state_text(row[state_column], width=widths[state_column])
        lines.append("  ".join(cells).rstrip())
    return lines
