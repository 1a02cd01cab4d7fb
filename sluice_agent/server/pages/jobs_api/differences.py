"""What differs between two versions of a job's settings. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.server.pages.jobs_api.settings_text import name_of, value_text

_MOST_LINES = 400
"""Lines of each side that are compared: beyond them one side is shown after the other."""

_AROUND = 3  # equal lines that are shown before and after a difference


class Line(NamedTuple):
    """A line of a comparison. `kind` is removed, added, equal, or left-out, whose text is the number of lines."""

    kind: str
    text: str


class Difference(NamedTuple):
    """A setting that differs, by its name and what it is called. `lines` compare texts of several lines; others are
    `before` and `after`, empty if it was not set."""

    name: str
    label: str
    before: str
    after: str
    lines: Sequence[Line]


def differences(before: JobSettings, after: JobSettings) -> list[Difference]:
    """Return what differs, in the order of the settings."""
    return [
        _difference(before, after, name)
        for name in JobSettings.model_fields
        if getattr(before, name) != getattr(after, name)
    ]


def _difference(before: JobSettings, after: JobSettings, name: str) -> Difference:
    old, new = value_text(before, name), value_text(after, name)
    if name == "webhook_secret" and old and new:
        new = f"{new}, another one"
    has_lines = "\n" in old or "\n" in new
    return Difference(name, name_of(name), old, new, list(_compared(old, new)) if has_lines else ())


def _compared(before: str, after: str) -> Iterator[Line]:
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > _MOST_LINES:
        yield from (Line("removed", line) for line in old)
        yield from (Line("added", line) for line in new)
        return
    groups = list(SequenceMatcher(a=old, b=new, autojunk=False).get_grouped_opcodes(_AROUND))
    shown = 0
    for group in groups:
        if group[0][1] > shown:
            yield Line("left-out", str(group[0][1] - shown))
        for kind, start, end, new_start, new_end in group:
            if kind == "equal":
                yield from (Line("equal", line) for line in old[start:end])
                continue
            yield from (Line("removed", line) for line in old[start:end])
            yield from (Line("added", line) for line in new[new_start:new_end])
        shown = group[-1][2]
    if len(old) > shown:
        yield Line("left-out", str(len(old) - shown))
