"""Tracebacks with the frames of libraries folded."""

from __future__ import annotations

from sluice_agent.server.pages.traceback_parts import parts_of

CELERY = '  File "/v/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task\n    R = f()\n    ^'
KOMBU = '  File "/v/lib/python3.11/site-packages/kombu/utils.py", line 1, in f\n    g()'
OWN = '  File "/srv/shop/tasks.py", line 12, in send\n    connect()\n    ^^^^^^^^^'
PYTHON = '  File "/usr/lib/python3.11/socket.py", line 851, in create_connection\n    raise error'
START = "Traceback (most recent call last):"


def test_frames_of_libraries_are_folded_and_own_ones_are_not() -> None:
    """The two lines that matter would be lost among forty of Celery's."""
    text = "\n".join([START, CELERY, KOMBU, OWN, PYTHON, "OSError: no route", "  a note"])
    parts = parts_of(text)
    assert [(part.is_folded, part.frames, part.text) for part in parts] == [
        (False, 0, START),
        (True, 2, f"{CELERY}\n{KOMBU}"),
        (False, 1, OWN),
        (True, 1, PYTHON),
        (False, 0, "OSError: no route\n  a note"),
    ]
    assert [part.title for part in parts if part.is_folded] == ["2 frames of celery and kombu", "1 frame of Python"]
    assert "\n".join(part.text for part in parts) == text


def test_any_text_is_shown_whole() -> None:
    """A traceback of another language, or a message that looks like a frame, would lose lines."""
    for text in ("", "at main.rb:3", "x\n\n\ny", f"{OWN}\nE: a\n{OWN}", "<script>", "\n".join([START, OWN] * 500)):
        assert "\n".join(part.text for part in parts_of(text)) == text
