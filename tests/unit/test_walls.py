"""The imports that each package and module may have, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sluice_agent

ROOT = Path(sluice_agent.__file__).parent
PACKAGE = sluice_agent.__name__
GROUND = {"async_exceptions", "bounded", "errors", "identity", "log", "model", "shortfalls", "stats"}
OBSERVERS = {
    "async_exceptions",
    "bounded",
    "identity",
    "globs",
    "log",
    "model",
    "redaction",
    "routing",
    "shortfalls",
    "agent_fields",
    "encoding",
    "timestamps",
    "transitions",
}
EVERYTHING = {path.stem for path in ROOT.iterdir()}

MAY_IMPORT = {
    **{name: set() for name in GROUND},
    "shortfalls": {"log"},
    "settings": GROUND,
    "globs": set(),
    "redaction": {"async_exceptions", "bounded", "log", "model"},
    "routing": set(),
    "agent_fields": set(),
    "encoding": {"identity", "model", "timestamps", "transitions"},
    "transitions": {"model"},
    "timestamps": {"async_exceptions", "model"},
    "transport": {*GROUND, "globs", "settings"},
    "signals": OBSERVERS,
    "health": {*GROUND, "monitor", "transport"},
    "monitor": OBSERVERS,
    "server": {"errors", "model"},
    "uwsgi": {"log"},
    "process": {*GROUND, "monitor", "settings", "transport", "uwsgi"},
    "agent": EVERYTHING - {"cli", "commands", "doctor", "server", "_public", "__init__"},
    "_public": EVERYTHING - {"cli", "commands", "doctor", "server", "transport", "__init__"},
    "__init__": EVERYTHING - {"cli", "commands", "doctor", "server", "transport", "signals", "monitor"},
    "auto": {"__init__"},
    "doctor": {*GROUND, "settings", "transport"},
    "commands": EVERYTHING - {"cli"},
    "cli": EVERYTHING,
    "__main__": {"cli"},
}
OWNERS = {  # the modules that may import a third-party library
    **dict.fromkeys(("celery", "kombu", "billiard"), ("signals", "monitor", "doctor/celery_app.py")),
    "httpx": ("transport/http.py",),
    "tenacity": ("transport/retry.py",),
    "fastapi": ("server",),
    "uvicorn": ("server",),
    "h11": ("server/protocol.py",),
    "prometheus_client": ("health",),
    "botocore": ("monitor/queues",),
    "pydantic_settings": ("settings.py",),
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported_by(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """Return the package of a module: `transport` for `sluice_agent.transport.lock`, `__init__` for a public name."""
    inner = module.split(".")[1:2]
    return inner[0] if inner and inner[0] in EVERYTHING else "__init__"


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_room_may(file: str) -> None:
    """Without these limits a change to one package would break others, and the agent's cost could not be predicted."""
    room = Path(file).parts[0].removesuffix(".py")
    ours = {room_of(name) for name in imported_by(file) if name.split(".")[0] == PACKAGE}
    assert ours - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("file", FILES)
def test_a_library_is_imported_only_where_it_belongs(file: str) -> None:
    """A transport that imports Celery could not be run beside the workers; a second HTTP client would differ."""
    for name in imported_by(file):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or file.startswith(owners), f"{name} is imported by {file}"


def test_a_monitor_holds_no_worker() -> None:
    """Celery's worker and the signals' handlers would take 2 MB more in each sidecar."""
    code = "import sys, sluice_agent.commands.monitor; print('celery.worker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
