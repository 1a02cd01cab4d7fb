"""The package is written in plain technical English, in names and in prose."""

from __future__ import annotations

from pathlib import Path

import pytest

import sluice_agent
from scripts.check_words import check


def test_the_package_uses_standard_terms() -> None:
    """Without it contributors have to learn a private vocabulary, and can't search for the usual terms."""
    assert list(check(Path(sluice_agent.__file__).parent)) == []


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("a.py", "# what the broker told us\n", "told"),
        ("a.py", 'MESSAGE = "Nobody ships the events."\n', "Nobody"),
        ("a.py", "def note_told() -> None: ...\n", "told"),
        ("a.py", "for each in ():\n    pass\n", "each"),
        ("transport/a.py", "class Pen: ...\n", "Pen"),
    ],
)
def test_a_word_that_has_a_standard_term_is_found(tmp_path: Path, module: str, source: str, word: str) -> None:
    """A check that misses a word would let the old vocabulary come back."""
    package = tmp_path / "package"
    (package / "transport").mkdir(parents=True)
    (package / module).write_text(source)
    assert list(check(package)) == [f"package/{module}:1: {word}"]


def test_an_old_module_is_found(tmp_path: Path) -> None:
    """A check that misses a module's old name would let it come back in a merge."""
    package = tmp_path / "package"
    (package / "signals").mkdir(parents=True)
    (package / "signals" / "listening.py").touch()
    assert list(check(package)) == ["package/signals/listening.py: this module has a new name"]


def test_other_uses_of_a_word_are_allowed(tmp_path: Path) -> None:
    """A check that refuses interfaces, or good names with the same letters, would be switched off."""
    (tmp_path / "a.py").write_text('# shear, foretold, amended; for each run\nreport["folder"] = hears_nothing = 1\n')
    assert list(check(tmp_path)) == [f"{tmp_path.name}/a.py:2: hears"]
