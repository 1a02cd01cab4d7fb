"""Another version of Celery or kombu, which lacks a method that the agent patches, or has it with other arguments."""

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

from sluice_agent.missing_patches import MissingPatches
from sluice_agent.signals.patching import patch_method
from tests.support.process import ROOT


class _Celery:
    """A class with a method of every kind."""

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
def test_a_method_that_cannot_be_patched_stays_as_it_is(owner: type, method: str, around: Callable[..., Any]) -> None:
    """With a Celery that is newer than the agent `install()` would raise, and no worker of the user would start."""
    before, missing_patches = vars(owner).get(method), MissingPatches()
    patch_method(owner, method, around, without="nothing is reported", missing_patches=missing_patches)
    assert vars(owner).get(method) is before
    assert missing_patches.effects() == {f"{owner.__name__}.{method}": "nothing is reported"}


def test_a_method_that_older_versions_do_not_have_is_not_missed() -> None:
    """The log would warn of a fault where there is none, with a Celery that is supported."""
    missing_patches = MissingPatches()
    patch_method(_Celery, "new", doubled, without="nothing is reported", is_new=True, missing_patches=missing_patches)
    assert missing_patches.effects() == {}


def test_all_missing_patches_are_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines at each start of a producer would fill a log, and none would explain what is not reported."""
    missing_patches = MissingPatches()
    missing_patches.log()
    missing_patches.add("Producer._publish", "jobs are reported late")
    missing_patches.add("Task.on_replace", "replaced jobs are reported anew")
    with caplog.at_level(logging.WARNING, "sluice_agent"):
        missing_patches.log()
        missing_patches.log()
    [line] = caplog.messages
    assert "Producer._publish: jobs are reported late" in line
    assert "Task.on_replace: replaced jobs are reported anew" in line


INSTALLS = """
    import functools, gc, importlib, json, os, sys, traceback, types
    import celery.app.events, celery.backends.cache, celery.fixups.django, celery.loaders.app, httpx  # once for all
    import kombu.transport.memory, sluice_agent.agent, sluice_agent.signals, sluice_agent.transport.delivery.shippers
    import sluice_agent
    from celery import Celery
    from celery.backends.base import DisabledBackend
    from sluice_agent.missing_patches import MISSING_PATCHES

    def patched():
        classes = [item for item in gc.get_objects() if issubclass(type(item), type)]
        return {(owner, name) for owner in classes for name, method in list(vars(owner).items())
                if type(method) is types.FunctionType and hasattr(method, "_sluice_agent")}

    def use_celery():
        app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
        def returns():
            return 1
        task = app.task(returns, name="shop.task")
        app.finalize()
        assert task.apply().get() == 1
        assert task.delay().id

    statuses = []
    def in_a_child(step):
        child = os.fork()
        if child:
            statuses.append(os.waitpid(child, 0)[1])
        else:
            code = 1
            try:
                step()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    read_end, write_end = os.pipe()
    def write_patched():
        sluice_agent.install()
        methods = [[owner.__module__, owner.__qualname__, name] for owner, name in patched()]
        os.write(write_end, json.dumps(methods).encode())

    in_a_child(write_patched)
    methods = json.loads(os.read(read_end, 100_000))
    assert len(methods) > 15, methods

    def install_without(methods):
        for owner, name in methods:
            delattr(owner, name)
        sluice_agent.install()

    def install_with_unnamed_arguments(owner, name):
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: original(*args, **kwargs))
        sluice_agent.install()
        use_celery()

    def check_that_all_arguments_are_passed_on(methods):
        calls, replacements = [], []
        for owner, name in methods:
            def record_call(*args, **kwargs):
                calls.append((args, kwargs))
            replacements.append(functools.wraps(getattr(owner, name))(record_call))
            setattr(owner, name, replacements[-1])
        sluice_agent.install()
        for (owner, name), replacement in zip(methods, replacements):
            assert getattr(owner, name) is not replacement, (owner, name, "it is not patched")
            for args in ((), (1,), (1, 2, 3, {}, (), None)):
                calls.clear()
                instance = types.SimpleNamespace()
                getattr(owner, name)(instance, *args, new=5)
                assert calls == [((instance, *args), {"new": 5})], (owner, name, calls)

    methods = [(getattr(importlib.import_module(module), owner), name) for module, owner, name in methods]
    in_a_child(lambda: install_without([method for method in methods if method[1] != "__init__"]))
    in_a_child(lambda: check_that_all_arguments_are_passed_on(methods))
    for owner, name in methods:
        in_a_child(lambda: install_with_unnamed_arguments(owner, name))
    print(len(statuses), "installed,", sum(map(bool, statuses)), "failed")
"""


def test_the_agent_is_installed_whatever_method_is_missing_or_has_other_arguments(tmp_path: Path) -> None:
    """After an upgrade of Celery or kombu no worker and no producer with the agent would start."""
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
