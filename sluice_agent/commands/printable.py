"""Text of clients as a terminal or a log can show it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with control characters as escapes: those of a job's name must not command the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, such as a traceback, in the same way."""
    return "\n".join(printable(line.expandtabs(4)) for line in text.splitlines())
