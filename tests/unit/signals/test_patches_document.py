"""docs/patches.md names everything of Celery, kombu and billiard that the agent replaces, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import celery

from tests.support.process import ROOT

INSTALLS = """
    import gc, json, os, sys, types
    from celery import Celery, beat, signals
    from celery.concurrency import prefork
    from celery.utils.dispatch import Signal
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.amqp.send_task_message  # the app makes its sender before the agent is installed
    import sluice_agent
    sluice_agent.install()
    prefork.TaskPool(1)  # a worker makes its pool after the agent is installed
    service = beat.Service(app, scheduler_cls=beat.Scheduler)
    signals.beat_init.send(sender=service)

    ours = os.path.dirname(sluice_agent.__file__)
    theirs = ("celery", "kombu", "billiard")

    def is_ours(value):
        return type(value) is types.FunctionType and value.__code__.co_filename.startswith(ours)

    def is_theirs(module):
        return isinstance(module, str) and module.partition(".")[0] in theirs

    patched = set()
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, type):
            for name, value in list(vars(thing).items()):
                if is_ours(value) and is_theirs(thing.__module__):
                    defining = [owner for owner in thing.__mro__[:-1] if name in vars(owner)][-1]
                    patched.add((f"{defining.__name__}.{name}", defining.__module__))
        elif kind is types.ModuleType:
            if is_theirs(thing.__name__):
                for name, value in list(vars(thing).items()):
                    if is_ours(value):
                        patched.add((f"{thing.__name__.rpartition('.')[2]}.{name}", thing.__name__))
        elif is_theirs(getattr(kind, "__module__", None)):
            for name, value in list(getattr(thing, "__dict__", {}).items()):
                if is_ours(value):
                    signal = isinstance(thing, Signal)
                    owner, module = (thing.name, signals.__name__) if signal else (kind.__name__, kind.__module__)
                    patched.add((f"{owner}.{name}", module))
    print(json.dumps(sorted(patched)))
"""


def documented() -> set[tuple[str, str]]:
    """The first two columns of the table: the method, and the module that defines it; as far as this Celery has it."""
    lines = (ROOT / "docs" / "patches.md").read_text(encoding="utf-8").splitlines()
    if celery.VERSION[:2] < (5, 7):
        lines = [line for line in lines if "(new in Celery 5.7)" not in line]
    cells = [[cell.strip().strip("`") for cell in line.split("|")[1:3]] for line in lines if line.startswith("| `")]
    return {(method, module) for method, module in cells}


def test_the_table_names_every_patch(tmp_path: Path) -> None:
    """A user who looks for what changes Celery, after a strange traceback, would not find it."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
        "SLUICE_SHIP": "never",
        "SLUICE_STATE_DIR": str(tmp_path),
    }
    code = textwrap.dedent(INSTALLS)
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    patched = {(method, module) for method, module in json.loads(ended.stdout)}
    assert len(patched) > 20
    assert patched == documented()
