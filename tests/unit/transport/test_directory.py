"""Where the journal may lie, and who may see it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport import directory as directories
from sluice_agent.transport.directory import find_directory, journal_files, open_directory, open_private

NAME = "connection"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
NOBODY = 65_534


def refused(state_dir: Path | None) -> str:
    with pytest.raises(JournalUnavailableError) as caught:
        open_directory(state_dir, NAME)
    assert "set SLUICE_STATE_DIR" in str(caught.value)
    return str(caught.value)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a temporary folder beside it; no XDG_STATE_HOME."""
    for variable, name in (("HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "home"


def in_tmp(home: Path) -> Path:
    return home.parent / "tmp" / f"sluice-agent-{os.geteuid()}"


def give_back(found: Path) -> None:
    """Leave nothing in the machine's shared memory."""
    found.rmdir()
    with suppress(OSError):  # an agent of this machine has its journal there
        found.parent.rmdir()


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    """Errors and arguments of tasks are nobody else's business on a shared host, whatever the umask."""
    umask = os.umask(0)
    try:
        directory = open_directory(tmp_path / "a" / "b", NAME)
        os.close(open_private(directory / "file", os.O_WRONLY | os.O_CREAT))
    finally:
        os.umask(umask)
    assert directory == tmp_path / "a" / "b" / NAME
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, directory / "file")] == [0o700, 0o600]
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
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
    """A file where the folder should be is told, not raised into the worker."""
    (tmp_path / NAME).touch()
    assert str(tmp_path) in refused(tmp_path)


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could read what is written, and write what is sent."""
    (tmp_path / NAME).mkdir(mode=0o777)
    os.chown(tmp_path / NAME, NOBODY, NOBODY)
    assert f"belongs to user {NOBODY}" in refused(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Whoever deploys learns which folder it was and what to do."""
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file' / 'x'}: Not a directory" in refused(tmp_path / "file" / "x")


def test_the_choice_of_the_user_is_the_only_candidate(home: Path) -> None:
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


def test_without_a_home_that_can_be_written_there_is_the_temporary_folder(home: Path) -> None:
    """Containers run as users without a home: the agent must work there without being told."""
    (home / ".local").touch()
    assert open_directory(None, NAME) == in_tmp(home) / NAME
    assert stat.S_IMODE(in_tmp(home).stat().st_mode) == 0o700


def test_shared_memory_is_the_last_resort(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only root file system has shared memory all the same."""
    (home / ".local").touch()
    (home.parent / "tmp" / f"sluice-agent-{os.geteuid()}").touch()
    assert [str(cursor) for cursor in directories._candidates()][-1] == f"/dev/shm/sluice-agent-{os.geteuid()}"
    found = open_directory(None, f"test-{os.getpid()}")
    try:
        assert found.parent == Path(f"/dev/shm/sluice-agent-{os.geteuid()}")
    finally:
        give_back(found)


@pytest.mark.parametrize("choose", [open_directory, find_directory])
def test_without_a_temporary_folder_there_is_shared_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch, choose: Callable[[Path | None, str], Path]
) -> None:
    """On a read-only root Python has no temporary folder, and says so by an error: `install()` must not raise it."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    (home / ".local").touch()
    found = choose(None, f"test-{os.getpid()}")
    assert found.parent == Path(f"/dev/shm/sluice-agent-{os.geteuid()}")
    if choose is open_directory:
        give_back(found)


@as_root
def test_a_shared_place_that_somebody_else_has_taken_is_passed_over(home: Path) -> None:
    """The name in the temporary folder can be guessed: its owner could exchange our folder for a link of theirs."""
    (home / ".local").touch()
    in_tmp(home).mkdir(mode=0o777)
    os.chown(in_tmp(home), NOBODY, NOBODY)
    found = open_directory(None, f"test-{os.getpid()}")
    give_back(found)
    assert in_tmp(home) not in found.parents


def test_a_shared_place_that_is_a_link_is_passed_over(home: Path) -> None:
    """Another user would choose where this user's events are written."""
    (home / ".local").touch()
    (home / "elsewhere").mkdir()
    in_tmp(home).symlink_to(home / "elsewhere")
    found = open_directory(None, f"test-{os.getpid()}")
    give_back(found)
    assert (home / "elsewhere") not in found.resolve().parents


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    """In a container every process has the same number: a kill -9 must not switch the agent off for ever."""
    open_directory(tmp_path, NAME)
    (tmp_path / NAME / f".probe-{os.getpid()}").touch()
    assert open_directory(tmp_path, NAME) == tmp_path / NAME


def test_a_folder_is_found_where_it_would_be_opened(home: Path) -> None:
    """Who looks elsewhere than the worker writes sees nothing; and looking makes nothing."""
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
def test_a_folder_that_is_none_is_not_found(tmp_path: Path, planted: Callable[[Path], None]) -> None:
    """What another user has planted is not read; nor is a place shown where no folder can be made."""
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


def test_a_folder_that_is_gone_has_no_files(tmp_path: Path) -> None:
    """The shipper must outlive a folder that somebody removes."""
    assert journal_files(tmp_path / "missing") == []
