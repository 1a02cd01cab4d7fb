"""The modules that the agent brings into a process of its host: each costs memory, and time at every start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OWN = {"_public", "errors", "host_budgets", "log", "stats"}
CELERY = {"billiard", "celery", "kombu", "vine"}
SCRIPT = """
import json, sys
import celery.app.trace, celery.signals
before = set(sys.modules)
import sluice_agent
imported = set(sys.modules) - before
sluice_agent.install(before_send={hook})
print(json.dumps([sorted(imported), sorted(set(sys.modules) - before - imported)]))
"""


def imports(tmp_path: Path, hook: str = "None", **variables: str) -> tuple[set[str], set[str]]:
    """Return the modules that importing the package brings into a process with Celery, and those of `install`."""
    environment = {
        "PATH": "",
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": "1c9d4b1e-6f7d-4d2f-8a4a-6c9e0f7a1b2c",
        "SLUICE_STATE_DIR": str(tmp_path),
        **variables,
    }
    command = [sys.executable, "-c", SCRIPT.replace("{hook}", hook)]
    output = subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=60).stdout
    imported, installed = json.loads(output)
    return set(imported), set(installed)


def brought_by(*libraries: str) -> set[str]:
    """Return the packages that importing `libraries` brings here, with what is optional to them and installed."""
    code = f"import json, sys, {', '.join(libraries)}; print(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    return packages(json.loads(output))


def packages(modules: set[str]) -> set[str]:
    """Return the names of the packages of others that `modules` are from."""
    names = {module.partition(".")[0] for module in modules}
    return {name for name in names if name not in sys.stdlib_module_names and name != "sluice_agent"}


@pytest.mark.parametrize(
    ("ship", "hook", "libraries"),
    [
        ("never", "None", ()),
        ("auto", "None", ("httpx", "tenacity")),
        ("never", "lambda event: event", ("pydantic.types",)),
    ],
)
def test_a_process_imports_only_what_it_uses(tmp_path: Path, ship: str, hook: str, libraries: tuple[str, ...]) -> None:
    """Without it every process of an app, its management commands included, starts later with each version.

    What it uses is imported here, in no thread: a child that is forked meanwhile would have half a module.
    """
    imported, installed = imports(tmp_path, hook, SLUICE_SHIP=ship)
    assert imported == {"sluice_agent", *(f"sluice_agent.{name}" for name in OWN)}
    assert packages(installed) <= CELERY | (brought_by(*libraries) if libraries else set())
    assert set(libraries) == installed & {"httpx", "pydantic.types", "tenacity"}


def test_a_process_without_a_key_does_not_connect(tmp_path: Path) -> None:
    """An app that is installed on a developer's machine without a key must pay for the settings only."""
    _, installed = imports(tmp_path, SLUICE_API_KEY="")
    assert packages(installed) == set()
    own = {module for module in installed if module.startswith("sluice_agent.")}
    assert own == {"sluice_agent.off_notice", "sluice_agent.setting_values", "sluice_agent.settings"}
