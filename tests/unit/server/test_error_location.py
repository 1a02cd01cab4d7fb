"""The location at which an error was raised, by which errors are grouped."""

from __future__ import annotations

import sys
import traceback

import pytest

from sluice_agent.server.record.error_location import location_of

LIBRARY = '  File "/venv/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task\n    R = fun()\n'
TASK = '  File "/srv/shop/mail/tasks.py", line 123, in send\n    connect()\n'
STANDARD = '  File "/usr/lib/python3.11/smtplib.py", line 255, in __init__\n    raise\n'
START = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("stacktrace", "location"),
    [
        (START + LIBRARY + TASK + STANDARD + "OSError: no route", "mail/tasks.py:123 in send"),
        (START + LIBRARY + TASK + TASK.replace("123, in send", "7, in <lambda>"), "mail/tasks.py:7 in <lambda>"),
        (START + LIBRARY + STANDARD, "python3.11/smtplib.py:255 in __init__"),
        (START + '  File "<frozen importlib>", line 1, in f\n' + TASK, "mail/tasks.py:123 in send"),
        (START + TASK + '  File "<string>", line 1, in f\n', "<string>:1 in f"),
        (START + '  File "C:\\shop\\Lib\\site-packages\\a\\b.py", line 1, in f\n' + TASK, "mail/tasks.py:123 in send"),
        (START + TASK + "E: a\n\nDuring handling …:\n\n" + START + TASK.replace("123", "9"), "mail/tasks.py:9 in send"),
        (START + '  File "/a/' + "x" * 300 + '.py", line 1, in f\n', ("a/" + "x" * 300)[:200]),
        ("  + Exception Group " + START + "  | " + TASK + START + TASK.replace("123", "9"), "mail/tasks.py:9 in send"),
        (START + 'OSError: File "x.py", line 1, in f', None),
        (START + '  File "x\0.py", line 1, in f\n', None),
        ("killed by signal 9", None),
        ("", None),
    ],
)
def test_the_location_is_the_last_frame_of_the_users_own_code(stacktrace: str, location: str | None) -> None:
    """Errors of one cause would otherwise be spread over groups, or all of a library's be in one."""
    assert location_of(stacktrace) == location


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_the_location_of_a_group_is_its_own() -> None:
    """A group of errors would otherwise be found under the location of one of its members."""

    def fail(number: int) -> None:
        raise ValueError(number)

    members = []
    for number in range(2):
        try:
            fail(number)
        except ValueError as error:
            members.append(error)
    try:
        raise ExceptionGroup("all failed", members)  # type: ignore[name-defined,unused-ignore] # noqa: F821, TRY301
    except Exception:  # noqa: BLE001 (before Python 3.11 it has no name)
        text = traceback.format_exc()
    assert text.count("in fail") == 2
    assert str(location_of(text)).endswith("in test_the_location_of_a_group_is_its_own")
