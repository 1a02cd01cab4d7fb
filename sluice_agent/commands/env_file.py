"""A file of environment variables, such as ``.env``: some of its lines are written anew, the others stay."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sluice_agent.commands.common import UserError

_PRIVATE = 0o600


def check_env_file(path: Path) -> None:
    """Raise `UserError` if the file can't be written, before there is anything to write."""
    target = path.resolve()
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError(f"--write-env: {target.parent} is no directory that can be written: choose another file")


def write_env_file(path: Path, variables: Mapping[str, str]) -> None:
    """Set `variables` in the file at `path`, at once; a new file is private, an old one keeps its mode.

    Raises `UserError` if it can't be written.
    """
    try:
        target = path.resolve()
        lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
        mode = target.stat().st_mode & 0o777 if target.exists() else _PRIVATE
        text = "\n".join(_with_variables(lines, variables)) + "\n"
        descriptor, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).chmod(mode)
        Path(draft).replace(target)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--write-env: {path} can't be written ({error}): choose another file") from None


def _with_variables(lines: list[str], variables: Mapping[str, str]) -> list[str]:
    remaining = dict(variables)
    result = []
    for line in lines:
        match = re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=", line)
        name = match[1] if match else ""
        if name not in variables:
            result.append(line)
        elif name in remaining:  # a second line of the same name would be the one that counts
            result.append(f"{name}={remaining.pop(name)}")
    return [*result, *(f"{name}={value}" for name, value in remaining.items())]
