"""The journal's directory: its possible paths, and which users may read it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.journal import directory as directories
from sluice_agent.transport.journal.directory import find_directory, journal_files, open_directory, open_private

NAME = "connection"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
NOBODY = 65_534


def refused(state_dir: Path | None) -> str:
    with pytest.raises(JournalUnavailableError) as caught:
        open_directory(state_dir, NAME)
    assert "set SLUICE_STATE_DIR" in str(caught.value)
    return str(caught.value)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a temporary directory beside it; no XDG_STATE_HOME."""
    for variable, name in (("HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "home"


def in_tmp(home: Path) -> Path:
    return home.parent / "tmp" / f"sluice-agent-{os.geteuid()}"


def remove_directory(directory: Path) -> None:
    """Leave nothing in the machine's shared memory."""
    directory.rmdir()
    with suppress(OSError):  # an agent of this machine has its journal there
        directory.parent.rmdir()


def test_directories_and_files_are_private(tmp_path: Path) -> None:
    """Errors and arguments of tasks are private on a shared host, whatever the umask."""
    umask = os.umask(0)
    try:
        directory = open_directory(tmp_path / "a" / "b", NAME)
        os.close(open_private(directory / "file", os.O_WRONLY | os.O_CREAT))
    finally:
        os.umask(umask)
    assert directory == tmp_path / "a" / "b" / NAME
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, directory / "file")] == [0o700, 0o600]
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_a_directory_that_others_can_read_is_closed(tmp_path: Path) -> None:
    """Made by an older deployment or by hand: it is ours, so it is made private."""
    (tmp_path / NAME).mkdir(mode=0o755)
    assert stat.S_IMODE(open_directory(tmp_path, NAME).stat().st_mode) == 0o700


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    """Another user would choose where this user's events are written."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / NAME).symlink_to(tmp_path / "theirs")
    assert "is a symbolic link" in refused(tmp_path)
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_planted_file_is_refused(tmp_path: Path) -> None:
    """A file in place of the directory is reported, not raised into the worker."""
    (tmp_path / NAME).touch()
    assert str(tmp_path) in refused(tmp_path)


@as_root
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could read what is written, and write what is sent."""
    (tmp_path / NAME).mkdir(mode=0o777)
    os.chown(tmp_path / NAME, NOBODY, NOBODY)
    assert f"belongs to user {NOBODY}" in refused(tmp_path)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error names the directory and what to do."""
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file' / 'x'}: Not a directory" in refused(tmp_path / "file" / "x")


def test_the_users_choice_is_the_only_candidate(home: Path) -> None:
    """Events that quietly go elsewhere are not found by the container that ships them."""
    (home / "file").touch()
    refused(home / "file")
    assert not in_tmp(home).exists()


def test_the_candidates_come_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and commands of one user find the same journal."""
    default = home / ".local" / "state" / "sluice-agent"
    assert open_directory(None, NAME) == default / NAME
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    assert open_directory(None, NAME) == home / "state" / "sluice-agent" / NAME
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert open_directory(None, NAME) == default / NAME


def test_without_a_home_that_can_be_written_there_is_the_temporary_directory(home: Path) -> None:
    """Containers run as users without a home: the agent must work there without configuration."""
    (home / ".local").touch()
    assert open_directory(None, NAME) == in_tmp(home) / NAME
    assert stat.S_IMODE(in_tmp(home).stat().st_mode) == 0o700


def test_shared_memory_is_the_last_resort(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only root file system has shared memory all the same."""
    (home / ".local").touch()
    (home.parent / "tmp" / f"sluice-agent-{os.geteuid()}").touch()
    assert [str(candidate) for candidate in directories._candidates()][-1] == f"/dev/shm/sluice-agent-{os.geteuid()}"
    directory = open_directory(None, f"test-{os.getpid()}")
    try:
        assert directory.parent == Path(f"/dev/shm/sluice-agent-{os.geteuid()}")
    finally:
        remove_directory(directory)


@pytest.mark.parametrize("choose", [open_directory, find_directory])
def test_without_a_temporary_directory_there_is_shared_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch, choose: Callable[[Path | None, str], Path]
) -> None:
    """On a read-only root Python has no temporary directory, and raises an error: `install()` must not raise it."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    (home / ".local").touch()
    directory = choose(None, f"test-{os.getpid()}")
    assert directory.parent == Path(f"/dev/shm/sluice-agent-{os.geteuid()}")
    if choose is open_directory:
        remove_directory(directory)


@as_root
def test_a_shared_path_that_another_user_has_taken_is_skipped(home: Path) -> None:
    """The name in the temporary directory can be guessed: its owner could replace our directory by a link."""
    (home / ".local").touch()
    in_tmp(home).mkdir(mode=0o777)
    os.chown(in_tmp(home), NOBODY, NOBODY)
    directory = open_directory(None, f"test-{os.getpid()}")
    remove_directory(directory)
    assert in_tmp(home) not in directory.parents


def test_a_shared_path_that_is_a_link_is_skipped(home: Path) -> None:
    """Another user would choose where this user's events are written."""
    (home / ".local").touch()
    (home / "elsewhere").mkdir()
    in_tmp(home).symlink_to(home / "elsewhere")
    directory = open_directory(None, f"test-{os.getpid()}")
    remove_directory(directory)
    assert (home / "elsewhere") not in directory.resolve().parents


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    """In a container every process has the same number: a kill -9 must not switch the agent off for ever."""
    open_directory(tmp_path, NAME)
    (tmp_path / NAME / f".probe-{os.getpid()}").touch()
    assert open_directory(tmp_path, NAME) == tmp_path / NAME


def test_a_directory_is_found_where_it_would_be_opened(home: Path) -> None:
    """A command that looks elsewhere than the worker writes sees nothing; and finding creates nothing."""
    default = home / ".local" / "state" / "sluice-agent"
    for state_dir, expected in ((home / "a" / "b", home / "a" / "b"), (None, default)):
        assert find_directory(state_dir, NAME) == expected / NAME
        assert list(home.iterdir()) == []
    (home / ".local").touch()
    assert find_directory(None, NAME) == in_tmp(home) / NAME
    assert not in_tmp(home).exists()
    (home / ".local").unlink()
    in_tmp(home).mkdir(mode=0o700)
    (in_tmp(home) / NAME).mkdir(mode=0o755)
    assert find_directory(None, NAME) == in_tmp(home) / NAME, "it is there, and the other one is not"
    assert stat.S_IMODE((in_tmp(home) / NAME).stat().st_mode) == 0o755


@pytest.mark.parametrize("planted", [Path.touch, lambda path: path.symlink_to(path.parent / "file")])
def test_a_directory_that_is_none_is_not_found(tmp_path: Path, planted: Callable[[Path], None]) -> None:
    """A file that another user planted is not read; nor is a path returned where no directory can be created."""
    (tmp_path / "file").touch()
    planted(tmp_path / NAME)
    with pytest.raises(JournalUnavailableError, match="set SLUICE_STATE_DIR"):
        find_directory(tmp_path, NAME)
    with pytest.raises(JournalUnavailableError, match="set SLUICE_STATE_DIR"):
        find_directory(tmp_path / NAME / "x" / "y", "z")


def test_a_file_is_never_opened_through_a_link(tmp_path: Path) -> None:
    """Another file of this user would be appended to."""
    (tmp_path / "victim").touch()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "link", os.O_WRONLY | os.O_CREAT)


def test_a_file_is_not_inherited_by_a_program_that_a_task_starts(tmp_path: Path) -> None:
    """A subprocess of a task that lives on would keep the worker's lock, and the file for ever live."""
    descriptor = open_private(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_directory_that_is_gone_has_no_files(tmp_path: Path) -> None:
    """The shipper must survive the removal of the directory."""
    assert journal_files(tmp_path / "missing") == []
