"""Where an error was raised: a frame of the traceback in the user's own code, as a short text that groups errors."""

from __future__ import annotations

import re
from typing import NamedTuple

_FRAME = re.compile(r'^[ |]*File "([^"\n\0]+)", line (\d{1,9}), in ([^\n\0]+)$', re.MULTILINE)
_START = re.compile(
    r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE
)  # not of a member
_MEMBERS = "+---------------- 1 ----------------"  # of an exception group, before the traceback of its first member
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\](?:python|pypy)\d[^/\\]*[/\\]|^<frozen ", re.IGNORECASE
)
_LONGEST = 200  # characters of a location


class Frame(NamedTuple):
    """One call of a traceback."""

    path: str
    line: int
    function: str

    @property
    def is_library(self) -> bool:
        """True if the file is of an installed package, or of Python itself."""
        return _LIBRARY.search(self.path) is not None

    @property
    def location(self) -> str:
        """The frame as a text: ``mail/tasks.py:123 in send``, with its directory, as many files have one name."""
        file = "/".join(re.split(r"[/\\]", self.path)[-2:])
        return f"{file}:{self.line} in {self.function}"[:_LONGEST]


def frame_in(line: str) -> Frame | None:
    """Return the frame that a line of a traceback names, None if it names none."""
    match = _FRAME.match(line)
    return match and Frame(match[1], int(match[2]), match[3].strip())


def location_of(stacktrace: str) -> str | None:
    """Return the last location in the user's own code that led to the error; if there is none, the last of all.

    Of chained errors it is that of the last, which ended the job; of a group its own, not that of a member.
    """
    last = _START.split(stacktrace)[-1].partition(_MEMBERS)[0]
    frames = [Frame(path, int(line), function.strip()) for path, line, function in _FRAME.findall(last)]
    own = [frame for frame in frames if not frame.is_library]
    return (own or frames)[-1].location if frames else None
