"""Checks of the migrations of a database."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType


def assert_each_follows(versions: ModuleType) -> None:
    """Fail unless each migration in the package `versions` follows the one before."""
    assert versions.__file__ is not None
    files = sorted(Path(versions.__file__).parent.glob("[0-9]*.py"))
    numbers = [file.name[:4] for file in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    for before, file in zip([None, *numbers], files, strict=False):
        module = import_module(f"{versions.__name__}.{file.stem}")
        assert (module.revision, module.down_revision) == (file.name[:4], before)
