"""What `pip install sluice-agent` brings: no package more than before, every file, and what it states of versions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers as known_classifiers

from scripts.check_wheel import check
from tests.support.process import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CLASSIFIERS: list[str] = PROJECT["project"]["classifiers"]
PYTHON = "Programming Language :: Python :: 3."
DISTRIBUTIONS = frozenset(
    [
        "amqp",
        "annotated-types",
        "anyio",
        "async-timeout",
        "billiard",
        "celery",
        "certifi",
        "click",
        "click-didyoumean",
        "click-plugins",
        "click-repl",
        "exceptiongroup",
        "h11",
        "httpcore",
        "httpx",
        "idna",
        "importlib-metadata",
        "kombu",
        "packaging",
        "prompt-toolkit",
        "pydantic",
        "pydantic-core",
        "python-dateutil",
        "six",
        "tenacity",
        "typing-extensions",
        "typing-inspection",
        "tzdata",
        "tzlocal",
        "vine",
        "wcwidth",
        "zipp",
    ]
)
"""The distributions that are installed with the agent, under any supported Python and Celery."""


def distributions(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the distributions that `name` with `extras` requires in this environment, directly and indirectly."""
    found: set[tuple[str, frozenset[str]]] = set()
    remaining = [(name, extras)]
    while remaining:
        for requirement in _required(*remaining.pop()):
            entry = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if entry not in found:
                found.add(entry)
                remaining.append(entry)
    return {required for required, _ in found} - {name}


def _required(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, requires(name) or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def test_a_bare_install_brings_no_other_package() -> None:
    """Each package more in the image of every worker is one more to review, to update and to be attacked through."""
    installed = distributions("sluice-agent")
    assert installed > {"celery", "httpx", "pydantic"}
    assert installed - DISTRIBUTIONS == set()


def test_the_readme_names_what_a_bare_install_brings() -> None:
    """Who reviews dependencies before a try would find one more in the image than the README has."""
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    names = sorted(Requirement(each).name for each in PROJECT["project"]["dependencies"])
    listed = f"{', '.join(names[:-1])} and {names[-1]}".replace("celery", "Celery")
    assert f"A bare install brings nothing but {listed}, and what these need." in readme


BROUGHT = {
    "amqp": "celery",
    "annotated_types": "pydantic",
    "billiard": "celery",
    "kombu": "celery",
    "pydantic_core": "pydantic",
    "re2": "google-re2",
    "referencing": "jsonschema",
    "starlette": "fastapi",
}
"""The modules that are imported under another name than that of the package which is asked for, or are a part of its
interface."""

OF_THE_USER = {"botocore", "django", "redis"}
"""What is imported only where the user's own program has it."""


def test_each_package_that_is_imported_is_asked_for() -> None:
    """A release of another package that no longer needs it would leave a worker that does not start."""
    extras = PROJECT["project"]["optional-dependencies"]
    required = [*PROJECT["project"]["dependencies"], *extras["monitor"], *extras["postgresql"], *extras["server"]]
    asked_for = {canonicalize_name(Requirement(text).name) for text in required}
    nodes = [node for path in (ROOT / "sluice_agent").rglob("*.py") for node in ast.walk(ast.parse(path.read_bytes()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"sluice_agent"} - OF_THE_USER
    assert {canonicalize_name(BROUGHT.get(module, module)) for module in modules} - asked_for == set()


WORKER = """
import sys
import sluice_agent
from celery import Celery
from celery.contrib.testing.worker import start_worker
from tests.support.prompt_broker import PROMPT_BROKER
app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.update(broker_transport=PROMPT_BROKER, broker_transport_options={"polling_interval": 0.01})
def one():
    return 1
add = app.task(one, name="shop.add")
sluice_agent.install()
with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
    assert add.delay().get(timeout=30) == 1
assert sluice_agent.stats()["captured"] > 2, sluice_agent.stats()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_worker_imports_nothing_of_the_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker where the extras are not installed would not start."""
    extra = distributions("sluice-agent", frozenset({"monitor", "server"})) - distributions("sluice-agent")
    assert {"fastapi", "prometheus-client", "uvicorn"} <= extra
    modules = {
        module
        for module, owners in packages_distributions().items()
        if extra.issuperset(map(canonicalize_name, owners))
    }
    monkeypatch.setenv("SLUICE_SHIP", "never")
    monkeypatch.setenv("SLUICE_CONNECTION_ID", "11111111-1111-4111-8111-111111111111")
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", WORKER], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "sluice_agent" in ended.stdout
    assert set(ended.stdout.split()) & modules - {"greenlet"} == set()  # which Celery itself imports where it is


@pytest.mark.parametrize(("ship", "is_imported"), [("never", "False"), ("auto", "True")])
def test_only_a_process_that_ships_imports_httpx(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ship: str, is_imported: str
) -> None:
    """Each worker beside a shipper would start 40 ms later; and where one ships, an import in its thread beside a fork
    would leave the child a module that is half loaded."""
    monkeypatch.setenv("SLUICE_API_KEY", "sk_test")
    monkeypatch.setenv("SLUICE_CONNECTION_ID", "11111111-1111-4111-8111-111111111111")
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SLUICE_SHIP", ship)
    code = "import sys, sluice_agent; sluice_agent.install(); print('httpx' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == is_imported


def test_the_classifiers_exist() -> None:
    """The package index refuses an upload with an unknown one, on the day of the release."""
    assert set(CLASSIFIERS) - known_classifiers == set()


def test_the_classifiers_name_every_supported_python() -> None:
    """A user looks there first; the constraints, the linter and the type checker must mean the same versions."""
    supported = [int(name.removeprefix(PYTHON)) for name in CLASSIFIERS if name.startswith(PYTHON)]
    oldest, newest = supported[0], supported[-1]
    assert supported == [*range(oldest, newest + 1)]
    assert PROJECT["project"]["requires-python"] == f">=3.{oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == f"3.{oldest}"
    comment = " ".join(
        takewhile(lambda line: line.startswith("#"), (ROOT / "constraints.txt").read_text().splitlines())
    )
    assert re.search(r"Python 3\.(\d+) to 3\.(\d+)", comment).groups() == (str(oldest), str(newest))  # type: ignore[union-attr]
    assert "Framework :: Celery" in CLASSIFIERS


def test_a_file_that_the_wheel_lacks_is_found(tmp_path: Path) -> None:
    """Without `py.typed` the type checkers of users ignore the package, and no test of ours would fail."""
    root = tmp_path
    (root / "sluice_agent" / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "py.typed", "__pycache__/a.pyc"):
        (root / "sluice_agent" / name).touch()
    wheel = ["sluice_agent/__init__.py", "sluice_agent/other.py", "sluice_agent-0.1.0.dist-info/METADATA"]
    assert list(check(wheel, root)) == [
        "sluice_agent/py.typed is not in the wheel",
        "sluice_agent/other.py is in the wheel, and not in the package",
    ]
