"""The imports that each package and module may have, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sluice_agent

ROOT = Path(sluice_agent.__file__).parent
PACKAGE = sluice_agent.__name__
EVERYTHING = {path.stem for path in ROOT.iterdir() if path.suffix in ("", ".py")}
GROUND = {"async_exceptions", "attempt_message", "errors", "host_budgets", "log", "model", "missing_patches", "stats"}
"""Modules that every room may use, but `lifecycle`."""
LIFECYCLE = {"async_exceptions", "globs", "log", "model"}
SERVER_ROOMS = {
    "access",
    "actions",
    "alerts",
    "database_errors",
    "errors",
    "event_decoder",
    "own_errors",
    "pages",
    "queries",
    "record",
    "request_body",
    "store",
    "stream",
    "timestamps",
    "validation",
    "webhooks",
}
OBSERVER = {*LIFECYCLE, "attempt_message", "lifecycle", "missing_patches"}

MAY_IMPORT = {
    **{name: set() for name in GROUND},
    "missing_patches": {"log"},
    "event": {"model"},
    "setting_values": set(),
    "settings": {*GROUND, "setting_values"},
    "before_send": {"async_exceptions", "event", "lifecycle", "log"},
    "globs": set(),
    "toml_tables": {"errors"},
    "lifecycle": LIFECYCLE,
    "outbound": set(),
    "transport/journal": {*GROUND, "globs"},
    "transport/delivery": {*GROUND, "settings", "transport/journal"},
    "signals": OBSERVER,
    "monitor/tracker": OBSERVER,
    "monitor/broker": {*OBSERVER, "monitor/tracker"},
    "monitor/queues": {*OBSERVER, "monitor/broker"},
    "monitor": {*OBSERVER, "monitor/tracker", "monitor/broker", "monitor/queues"},
    "health": {*GROUND, "monitor", "transport/journal", "transport/delivery"},
    "server/timestamps": set(),
    "server/errors": set(),
    "server/own_errors": set(),
    "server/security_headers": set(),
    "server/database_errors": {"log", "server/errors", "server/store"},
    "server/middleware": {"log", "server/errors", "server/security_headers"},
    "server/request_body": {"server/errors"},
    "server/event_decoder": {"model"},
    "server/validation": {"event", "model", "server/errors", "server/event_decoder", "server/timestamps"},
    "server/record": {"model", "server/timestamps"},
    "server/store": {"errors", "log", "model", "server/record", "server/timestamps", "server/validation"},
    "server/access": {"errors", "log", "server/errors", "server/store", "server/timestamps"},
    "server/queries": {"model", "server/errors", "server/record", "server/store", "server/timestamps"},
    "server/stream": {"log", "server/record", "server/store"},
    "server/actions": {
        "errors",
        "globs",
        "log",
        "model",
        "server/access",
        "server/errors",
        "server/queries",
        "server/record",
        "server/store",
        "server/timestamps",
        "server/validation",
    },
    "server/webhooks": {"log", "outbound", "server/store"},
    "server/alerts": {
        "errors",
        "log",
        "outbound",
        "server/queries",
        "server/store",
        "server/timestamps",
        "server/webhooks",
        "toml_tables",
    },
    "server/pages": {
        "errors",
        "model",
        "outbound",
        "server/access",
        "server/actions",
        "server/errors",
        "server/middleware",
        "server/queries",
        "server/record",
        "server/request_body",
        "server/store",
        "server/timestamps",
    },
    "server/pages/jobs_api": {
        "jobs/attempts",
        "jobs/celery_target",
        "jobs/definitions",
        "jobs/json_text",
        "jobs/routes",
        "jobs/runs",
        "jobs/status",
        "jobs/store",
        "jobs/webhooks",
        "server/access",
        "server/errors",
        "server/pages",
        "server/queries",
        "server/record",
        "server/timestamps",
        "server/webhooks",
    },
    "server": {
        "errors",
        "jobs/celery_target",
        "jobs/engine",
        "jobs/routes",
        "jobs/store",
        "log",
        "model",
        *(f"server/{room}" for room in SERVER_ROOMS),
    },
    "jobs/attempts": {"lifecycle", "outbound"},
    "jobs/worker": {"attempt_message", "jobs/attempts", "log", "outbound", "transport/journal"},
    "jobs/tasks": {"attempt_message", "errors", "jobs/worker", "log", "settings", "transport/journal"},
    "jobs/celery_target": {"globs"},
    "jobs/cron": set(),
    "jobs/environments": {"errors", "log", "outbound", "toml_tables"},
    "jobs/json_text": set(),
    "jobs/payload_schema": set(),
    "jobs/status": set(),
    "jobs/store": {"server/store", "server/timestamps"},
    "jobs/definitions": {
        "jobs/celery_target",
        "jobs/cron",
        "jobs/json_text",
        "jobs/payload_schema",
        "jobs/status",
        "jobs/store",
        "outbound",
        "server/errors",
        "server/timestamps",
    },
    "jobs/webhooks": {
        "jobs/definitions",
        "jobs/json_text",
        "jobs/signatures",
        "jobs/status",
        "jobs/store",
        "server/errors",
        "server/webhooks",
    },
    "jobs/runs": {
        "jobs/celery_target",
        "jobs/cron",
        "jobs/definitions",
        "jobs/json_text",
        "jobs/payload_schema",
        "jobs/status",
        "jobs/store",
        "jobs/webhooks",
        "server/errors",
        "server/timestamps",
    },
    "jobs/signatures": {"server/webhooks"},
    "jobs/execution": {
        "jobs/attempts",
        "jobs/definitions",
        "jobs/environments",
        "jobs/json_text",
        "jobs/runs",
        "jobs/signatures",
        "jobs/status",
        "jobs/store",
        "server/errors",
    },
    "jobs/task_events": {
        "jobs/attempts",
        "jobs/definitions",
        "jobs/runs",
        "jobs/status",
        "jobs/store",
        "model",
        "server/queries",
        "server/record",
        "server/store",
        "server/stream",
        "server/timestamps",
    },
    "jobs/engine": {
        "attempt_message",
        "jobs/attempts",
        "jobs/celery_target",
        "jobs/cron",
        "jobs/definitions",
        "jobs/environments",
        "jobs/execution",
        "jobs/runs",
        "jobs/status",
        "jobs/store",
        "jobs/task_events",
        "jobs/webhooks",
        "jobs/worker",
        "log",
        "server/actions",
        "server/store",
        "server/timestamps",
        "server/webhooks",
        "transport/journal",
    },
    "jobs/routes": {
        "errors",
        "jobs/celery_target",
        "jobs/cron",
        "jobs/definitions",
        "jobs/environments",
        "jobs/execution",
        "jobs/json_text",
        "jobs/runs",
        "jobs/status",
        "jobs/store",
        "jobs/webhooks",
        "jobs/task_events",
        "outbound",
        "server/access",
        "server/database_errors",
        "server/errors",
        "server/own_errors",
        "server/request_body",
        "server/timestamps",
        "server/webhooks",
    },
    "client": {"errors"},
    "uwsgi": {"log"},
    "off_notice": {"log"},
    "notices": {*GROUND, "settings", "transport/journal", "transport/delivery"},
    "process": {*GROUND, "monitor", "settings", "transport/journal", "transport/delivery", "uwsgi"},
    "agent": EVERYTHING - {"cli", "client", "commands", "doctor", "jobs", "server", "testing", "_public", "__init__"},
    "_public": EVERYTHING
    - {"cli", "client", "commands", "doctor", "jobs", "server", "testing", "transport", "__init__"},
    "testing": {"_public", "before_send", "event", "lifecycle", "model", "settings", "signals", "stats"},
    "__init__": EVERYTHING
    - {"cli", "client", "commands", "doctor", "jobs", "server", "testing", "transport", "signals", "monitor"},
    "auto": {"__init__"},
    "django": {"__init__", "before_send", "errors", "lifecycle", "settings"},
    "doctor": {*GROUND, "settings", "transport/journal", "transport/delivery"},
    "commands": EVERYTHING - {"cli", "testing"},
    "cli": EVERYTHING - {"testing"},
    "__main__": {"cli"},
}
"""The rooms: what the files of each may import of the package. A file belongs to the innermost room that holds it."""
OWNERS = {
    **dict.fromkeys(
        ("celery", "kombu", "billiard"),
        (
            "signals",
            "monitor/__init__.py",
            "monitor/broker",
            "monitor/queues",
            "doctor/celery_app.py",
            "off_notice.py",
            "jobs/tasks.py",
            "server/actions/celery_client.py",
        ),
    ),
    "amqp": ("server/actions/celery_client.py",),
    "httpx": ("transport/delivery/http.py", "client/http.py", "outbound/http.py", "jobs/worker/connection.py"),
    "tenacity": ("transport/delivery/retry.py",),
    "fastapi": ("server", "jobs/routes"),
    "uvicorn": ("server",),
    "psycopg": (
        *(f"server/store/postgresql{part}.py" for part in ("", "_arrays", "_database")),
        "server/store/notifications.py",
    ),
    "cronsim": ("jobs/cron.py",),
    **dict.fromkeys(("jsonschema", "referencing", "re2"), ("jobs/payload_schema.py",)),
    "h11": ("outbound/http.py", "server/protocol.py"),
    "msgspec": ("server/event_decoder.py", "server/record", "server/store"),
    "jinja2": ("server/pages/render.py",),
    "prometheus_client": ("health",),
    "botocore": ("monitor/queues",),
}
"""The files and folders that may import a third-party library.

A further one is one more entry in the library's row. A room that makes HTTP requests has one file that imports httpx:
the server's outbound calls go through `outbound`. One file will import Celery for the server and the jobs API together.
"""
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported_by(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: str) -> str:
    """Return the room of a file or module, given by its path inside the package; `__init__` for a public name."""
    parts = path.removesuffix(".py").split("/")
    prefixes = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), "__init__")


def is_allowed(room: str, importer: str) -> bool:
    """Return whether the files of `importer` may import from `room`: from those rooms, or one inside."""
    allowed = {importer, *MAY_IMPORT[importer]}
    return any(room == name or room.startswith(f"{name}/") for name in allowed)


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_room_may(file: str) -> None:
    """Without these limits a change to one package would break others, and the agent's cost could not be predicted."""
    importer = room_of(file)
    rooms = {room_of("/".join(name.split(".")[1:])) for name in imported_by(file) if name.split(".")[0] == PACKAGE}
    assert not {room for room in rooms if not is_allowed(room, importer)}


@pytest.mark.parametrize("file", FILES)
def test_a_library_is_imported_only_where_it_belongs(file: str) -> None:
    """A transport that imports Celery could not be run beside the workers; a second HTTP client would differ."""
    for name in imported_by(file):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or file.startswith(owners), f"{name} is imported by {file}"


def test_every_row_names_what_exists() -> None:
    """A room or a file that was renamed would keep its permissions for whoever takes the name next."""
    owners = {owner for library in OWNERS.values() for owner in library}
    named = {*MAY_IMPORT, *owners, *(room for rooms in MAY_IMPORT.values() for room in rooms)}
    assert {name for name in named if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()} == set()


def test_no_circle_joins_rooms() -> None:
    """Rooms that import each other can't be understood, tested or changed one at a time."""
    rooms: dict[str, set[str]] = {}
    for file in FILES:
        names = (name.split(".") for name in imported_by(file))
        imported = {room_of("/".join(parts[1:])) for parts in names if parts[0] == PACKAGE}
        rooms.setdefault(room_of(file), set()).update(imported - {room_of(file)})
    TopologicalSorter(rooms).prepare()  # raises CycleError, which names the circle


def test_a_monitor_holds_no_worker() -> None:
    """Celery's worker and the signals' handlers would take 2 MB more in each sidecar."""
    code = "import sys, sluice_agent.commands.monitor; print('celery.worker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_a_server_holds_no_agent() -> None:
    """What the other commands import would take 13 MB more in each server."""
    modules = "sluice_agent.cli, sluice_agent.commands.serve, sluice_agent.server.runner"
    code = f"import sys, {modules}; print({{'celery', 'httpx', 'alembic'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
