"""Celery and kombu as another version may have them: without a method that is listened to, or with other arguments."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.shortfalls import Shortfalls
from sluice_agent.signals.patching import patch_method
from tests.support.process import ROOT


class _Celery:
    """What has one method of each kind."""

    def method(self, number: int) -> int:
        return number

    @staticmethod
    def static(number: int) -> int:
        return number

    @classmethod
    def of_class(cls, number: int) -> int:
        return number

    @property
    def number(self) -> int:
        return 1

    async def asynchronous(self) -> int:
        return 1


def doubled(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: 2 * original(*args, **kwargs)


def failing(original: Callable[..., Any]) -> Callable[..., Any]:
    raise ValueError("it has no such argument")


@pytest.mark.parametrize(
    ("owner", "method", "around"),
    [
        (_Celery, "gone", doubled),
        (_Celery, "static", doubled),
        (_Celery, "of_class", doubled),
        (_Celery, "number", doubled),
        (_Celery, "asynchronous", doubled),
        (_Celery, "method", failing),
        (int, "bit_length", doubled),  # as Cython would have it
    ],
)
def test_a_method_that_cannot_be_listened_to_stays_as_it_is(
    owner: type, method: str, around: Callable[..., Any]
) -> None:
    """A Celery that is newer than the agent would raise in `install()`, and no worker of the user's would start."""
    before, shortfalls = vars(owner).get(method), Shortfalls()
    patch_method(owner, method, around, without="nothing is reported", shortfalls=shortfalls)
    assert vars(owner).get(method) is before
    assert shortfalls.effects() == {f"{owner.__name__}.{method}": "nothing is reported"}


def test_a_method_that_older_versions_do_not_have_is_not_missed() -> None:
    """With a Celery that is supported the log would complain of what is no fault."""
    shortfalls = Shortfalls()
    patch_method(_Celery, "new", doubled, without="nothing is reported", is_new=True, shortfalls=shortfalls)
    assert shortfalls.effects() == {}


def test_all_that_is_missing_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines at each start of each producer would fill a log, and no line would explain what is not reported."""
    shortfalls = Shortfalls()
    shortfalls.log()
    shortfalls.add("Producer._publish", "jobs are reported late")
    shortfalls.add("Task.on_replace", "replaced jobs are reported anew")
    with caplog.at_level(logging.WARNING, "sluice_agent"):
        shortfalls.log()
        shortfalls.log()
    [line] = caplog.messages
    assert "Producer._publish: jobs are reported late" in line
    assert "Task.on_replace: replaced jobs are reported anew" in line


INSTALLS = """
    import functools, gc, importlib, json, os, sys, traceback, types
    import sluice_agent
    from celery import Celery
    from celery.backends.base import DisabledBackend
    from sluice_agent.shortfalls import SHORTFALLS

    def patched():
        classes = [thing for thing in gc.get_objects() if issubclass(type(thing), type)]
        return {(owner, name) for owner in classes for name, method in list(vars(owner).items())
                if type(method) is types.FunctionType and hasattr(method, "_sluice_agent")}

    def use():
        app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
        def returns():
            return 1
        task = app.task(returns, name="shop.task")
        app.finalize()
        assert task.apply().get() == 1
        assert task.delay().id

    failed = []
    def in_a_child(step):
        child = os.fork()
        if child:
            failed.append(os.waitpid(child, 0)[1])
        else:
            code = 1
            try:
                step()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    reading, writing = os.pipe()
    def name_patched():
        sluice_agent.install()
        names = [[owner.__module__, owner.__qualname__, name] for owner, name in patched()]
        os.write(writing, json.dumps(names).encode())

    in_a_child(name_patched)
    names = json.loads(os.read(reading, 100_000))
    assert len(names) > 15, names

    def without(owner, name):
        delattr(owner, name)
        sluice_agent.install()

    def as_another_has_it(owner, name):
        original = getattr(owner, name)
        setattr(owner, name, lambda *things, **options: original(*things, **options))
        sluice_agent.install()
        use()

    def passes_all_on(owner, name):
        original, calls = getattr(owner, name), []
        def received(*things, **options):
            calls.append((things, options))
        setattr(owner, name, functools.wraps(original)(received))
        sluice_agent.install()
        assert getattr(owner, name) is not received, "it is listened to"
        for things in ((), (1,), (1, 2, 3, {}, (), None)):
            calls.clear()
            thing = types.SimpleNamespace()
            getattr(owner, name)(thing, *things, new=5)
            assert calls == [((thing, *things), {"new": 5})], (owner, name, calls)

    for module, owner_name, name in names:
        owner = getattr(importlib.import_module(module), owner_name)
        if name != "__init__":
            in_a_child(lambda: without(owner, name))
        in_a_child(lambda: as_another_has_it(owner, name))
        in_a_child(lambda: passes_all_on(owner, name))
    print(len(failed), "installed,", sum(map(bool, failed)), "failed")
"""


def test_the_agent_is_installed_whatever_method_is_missing_or_has_other_arguments(tmp_path: Path) -> None:
    """The next release of Celery or kombu would stop each worker and each producer that has the agent as it starts."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_API_URL": "http://127.0.0.1:9/api",
        "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
        "SLUICE_STATE_DIR": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INSTALLS)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.stdout.endswith(" installed, 0 failed\n"), ended.stderr[-5000:]
