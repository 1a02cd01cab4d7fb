"""`sluice-agent serve --write-env`: the variables of workers in a file that has others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sluice_agent.commands.common import UserError
from sluice_agent.commands.env_file import check_env_file, write_env_file
from sluice_agent.commands.serve import serve

VARIABLES = {"SLUICE_API_URL": "http://127.0.0.1:8787/api", "SLUICE_API_KEY": "sk_local"}


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """Another user of the machine would read the key."""
    write_env_file(tmp_path / ".env", VARIABLES)
    assert (tmp_path / ".env").read_text() == "SLUICE_API_URL=http://127.0.0.1:8787/api\nSLUICE_API_KEY=sk_local\n"
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_other_lines_stay(tmp_path: Path) -> None:
    """A user would lose the settings of the app; a second line of one name would be the one that counts."""
    file, link = tmp_path / "shared.env", tmp_path / ".env"
    file.write_text("# ours\nDEBUG=1\n export SLUICE_API_KEY='sk_old'\nSLUICE_API_KEY=sk_older\nNAME=é")
    file.chmod(0o640)
    link.symlink_to(file)
    write_env_file(link, VARIABLES)
    expected = "# ours\nDEBUG=1\nSLUICE_API_KEY=sk_local\nNAME=é\nSLUICE_API_URL=http://127.0.0.1:8787/api\n"
    assert file.read_text() == expected
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    """A traceback does not tell a user which directory is missing; and a key that is shown once would be made first."""
    with pytest.raises(UserError, match="no directory that can be written"):
        check_env_file(tmp_path / "missing" / ".env")
    (tmp_path / ".env").write_bytes(b"\xff")
    with pytest.raises(UserError, match="can't be written"):
        write_env_file(tmp_path / ".env", VARIABLES)
    result = CliRunner().invoke(serve, ["--database", str(tmp_path / "db"), "--write-env", "/missing/.env"])
    assert result.exit_code == 2
    assert re.search("Error: --write-env: /missing is no directory", result.output)
    assert not (tmp_path / "db").exists()
