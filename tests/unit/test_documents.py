"""What the documents name exists: linked pages and headings, files, tests, make's targets, environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from scripts.settings_table import with_table
from sluice_agent import settings
from sluice_agent.cli import main
from sluice_agent.commands.monitor import celery_sluice
from tests.support.process import ROOT

PACKAGE = ROOT / "sluice_agent"
SETTINGS = ROOT / "docs" / "settings.md"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *PAGES, *sorted((ROOT / "examples").rglob("*.md"))]
SOURCES = [ROOT / "Makefile", ROOT / ".ci" / "run", *sorted(ROOT.glob("scripts/*.*")), *sorted(PACKAGE.rglob("*.py"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
PATH = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*[\w.-]+(?:\.(?:md|py|sh|toml|txt|yaml)|/)(?:::\w+)?(?![\w./*<-])")
PATH_FROM_ROOT = re.compile(r"\b(?:docs|examples|scripts|sluice_agent|tests)/[\w./-]*\w(?![\w./-]*[%*<{$])")
TARGET = re.compile(r"\bmake ([a-z][\w-]*)")
VARIABLE = re.compile(r"\b(?:SLUICE|ACKLY)_[A-Z]+(?:_[A-Z]+)*\b")

LIBRARIES = ("amqp", "billiard", "celery", "kombu")
"""Libraries whose files a document may name: the installed version counts."""
MADE_AT_RUN_TIME = {"dead/", "flaky-tests.txt"}
"""Files and directories that no commit has."""


def broken_references(document: Path, text: str) -> list[str]:
    """Return all that `text`, the content of `document`, names and that does not exist."""
    code = "\n".join([*SPAN.findall(FENCE.sub("", text)), *commands_in(text)])
    return [
        *(f"link {link}" for link in LINK.findall(FENCE.sub("", text)) if not leads_somewhere(document, text, link)),
        *(f"path {path}" for path in PATH.findall(code) if not exists(document, path)),
        *(f"make {target}" for target in TARGET.findall(code) if target not in make_targets()),
        *(f"variable {name}" for name in VARIABLE.findall(text) if name not in variables()),
    ]


def commands_in(text: str) -> list[str]:
    """Return the blocks of shell commands. Diagrams and a user's own code may name any file."""
    return [block for language, block in FENCE.findall(text) if language == "sh"]


def leads_somewhere(document: Path, text: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):  # another site
        return True
    path, _, anchor = link.partition("#")
    target = document.parent / path
    if path and not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8") if path else text)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(document: Path, reference: str) -> bool:
    """Return whether a path, or `path::test`, is that of a file: from the root, the package or beside the document."""
    path, _, test = reference.partition("::")
    places = [ROOT / path, PACKAGE / path, document.parent / path, *installed(path)]
    if "/" not in path:
        places += ROOT.glob(f"[!.]*/**/{path}")
    found = [place for place in places if place.exists()]
    if test:
        return any(f"def {test}(" in place.read_text(encoding="utf-8") for place in found)
    return bool(found) or path in MADE_AT_RUN_TIME


def installed(path: str) -> Iterator[Path]:
    library, _, inner = path.partition("/")
    if library in LIBRARIES and inner:
        yield from (Path(directory) / inner for directory in import_module(library).__path__)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def variables() -> set[str]:
    """Return the variables that the settings and the commands read."""
    return {*settings.variables()} | set(command_variables(main)) | set(command_variables(celery_sluice))


def command_variables(command: click.Command | None) -> Iterator[str]:
    assert command is not None
    for parameter in command.params:
        names = parameter.envvar or ()
        yield from (names,) if isinstance(names, str) else names
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from command_variables(command.get_command(context, name))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_exists(document: Path) -> None:
    """A reader who follows a link to nothing, or sets a variable that nothing reads, stops trusting the rest."""
    assert broken_references(document, document.read_text(encoding="utf-8")) == []


def test_paths_in_the_source_exist() -> None:
    """A comment that points to a file that has moved sends a contributor on a search."""
    named = {
        (source.relative_to(ROOT).as_posix(), path)
        for source in SOURCES
        for path in PATH_FROM_ROOT.findall(source.read_text(encoding="utf-8"))
    }
    assert {(source, path) for source, path in named if not (ROOT / path).exists()} == set()


def test_the_table_of_settings_is_current() -> None:
    """A setting that is not in the table is found by nobody who does not read the source; a wrong default misleads."""
    assert with_table(SETTINGS.read_text(encoding="utf-8")) == SETTINGS.read_text(encoding="utf-8"), (
        "write it: python -m scripts.settings_table"
    )
    assert settings.variables().keys() <= set(VARIABLE.findall(SETTINGS.read_text(encoding="utf-8")))


def test_the_readme_is_short() -> None:
    """A README that nobody reads to its end hides what a new user needs."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_is_in_the_navigation() -> None:
    """A page that mkdocs.yml does not name is not read, and gets out of date."""
    named = set(re.findall(r"- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {page.name for page in PAGES}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[how](docs/no-such-page.md)", ["link docs/no-such-page.md"]),
        ("[how](README.md#no-such-heading)", ["link README.md#no-such-heading"]),
        ("# A `name`, and more\n[up](#a-name-and-more) [down](#another)", ["link #another"]),
        ("see `signals/no_such_file.py`", ["path signals/no_such_file.py"]),
        ("see `celery/app/no_such_file.py`", ["path celery/app/no_such_file.py"]),
        ("see `transport/no_such_room/`", ["path transport/no_such_room/"]),
        ("see `tests/unit/test_walls.py::test_nothing`", ["path tests/unit/test_walls.py::test_nothing"]),
        ("```sh\npython -m pytest tests/unit/test_nothing.py\n```", ["path tests/unit/test_nothing.py"]),
        ("run `make no-such-target`", ["make no-such-target"]),
        ("set SLUICE_NO_SUCH_SETTING=1", ["variable SLUICE_NO_SUCH_SETTING"]),
    ],
)
def test_a_broken_reference_is_found(text: str, faults: list[str]) -> None:
    """A check that misses one kind of reference lets those go stale unseen."""
    assert broken_references(ROOT / "PAGE.md", text) == faults


@pytest.mark.parametrize(
    "text",
    [
        "[how](docs/outcomes.md), [style](https://example.com/no.md), [settings](README.md#what-it-costs)",
        "see `signals/patching.py`, `tests/unit/test_walls.py::test_a_library_is_imported_only_where_it_belongs`",
        "see `celery/app/trace.py` and `transport/`; run `make check`, with SLUICE_API_KEY and `SLUICE_BROKER_URL`",
        "```python\nopen('their/own_file.py')\n```",
        "make a copy, of SLUICE_* and of `/var/lib/x.txt`",
    ],
)
def test_other_text_is_not_found(text: str) -> None:
    """A check that finds faults where there are none would be switched off."""
    assert broken_references(ROOT / "PAGE.md", text) == []
