"""The journal's folder: where it may lie, who may own it, and what its files are called."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.flock import close_locked, try_lock

FORMAT = "v1"
SUFFIX = f".{FORMAT}.ndjson"
EVENTS = "events"
VITALS = "vitals"  # heartbeats and queue snapshots: the first to go when the folder is full
LANES = (EVENTS, VITALS)

_PRIVATE_DIRECTORY = 0o700


def open_directory(state_dir: Path | None, name: str) -> Path:
    """The private folder `name` (a connection's id, for its journal) in the state folder, made where it is absent.

    `state_dir` is the user's choice; without one it is the first candidate that can be written: the XDG state folder,
    the temporary folder, shared memory. Raises `JournalUnavailableError`, which says why and what to do.
    """
    refusals = []
    for candidate in [state_dir] if state_dir else _candidates():
        try:
            directory = candidate / name
            candidate.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            if state_dir is None:  # its name can be guessed: whoever owns it could exchange what is in it
                _make_private(candidate)
            directory.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
            _make_private(directory)
            _must_be_usable(directory)
        except (OSError, JournalUnavailableError) as error:
            refusals.append(_refusal(candidate, error))
        else:
            return directory
    raise _unavailable(refusals)


def find_directory(state_dir: Path | None, name: str) -> Path:
    """The folder that `open_directory` has made, or would make: this makes and changes nothing, not even to try it.

    Raises `JournalUnavailableError` where there is none that is ours, and none could be made.
    """
    refusals = []
    would_be_made = None
    for candidate in [state_dir] if state_dir else _candidates():
        directory = candidate / name
        try:
            if state_dir is None and os.path.lexists(candidate):
                _must_be_ours(candidate)
            if os.path.lexists(directory):
                _must_be_ours(directory)
                _must_lock(directory)
                return directory
            _must_take_a_folder(nearest_existing(directory))
        except (OSError, JournalUnavailableError) as error:
            refusals.append(_refusal(candidate, error))
        else:
            would_be_made = would_be_made or directory
    if would_be_made is None:
        raise _unavailable(refusals)
    return would_be_made


def nearest_existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(cursor for cursor in (path, *path.parents) if os.path.lexists(cursor))


def journal_files(directory: Path, lane: str | None = None) -> list[str]:
    """The names of the journal's files, the oldest first. A link, a folder or a pipe of such a name is none of them."""
    mark = f"-{lane}-" if lane else "-"
    return sorted(entry.name for entry in _entries(directory) if mark in entry.name)


def count_writers(names: Iterable[str]) -> int:
    """How many have written these files of the journal: processes, twice where they have heartbeats to tell."""
    return len({tuple(name.split("-")[1:]) for name in names})


def other_versions(directory: Path) -> list[str]:
    """Files of the journal in another version's format: they stay as they are, and nobody here reads them."""
    try:
        return sorted(path.name for path in directory.glob("*.ndjson") if not path.name.endswith(SUFFIX))
    except OSError:
        return []


def directory_bytes(directory: Path) -> int:
    """How many bytes the journal's files take."""
    return sum(file_sizes(directory).values())


def file_sizes(directory: Path) -> dict[str, int]:
    """How long each of the journal's files is now, in bytes, the oldest first."""
    found = {}
    for entry in _entries(directory):
        with contextlib.suppress(FileNotFoundError):
            found[entry.name] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(found.items()))


def open_private(path: Path, flags: int) -> int:
    """Open a file that only this user can read: never one behind a symbolic link, and not for a program it executes."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check_directory(directory: Path) -> None:
    """Raises OSError where `directory` is not ours any more: somebody may have removed it, and made another."""
    try:
        _make_private(directory)
    except JournalUnavailableError as error:
        raise PermissionError(errno.EPERM, str(error)) from error


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    """The journal's files as the folder lists them: a Path for each would cost more than the listing."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(SUFFIX) and name[0] != "." and "-" in name and entry.is_file(follow_symlinks=False):
                    yield entry
    except FileNotFoundError:
        return


def _candidates() -> Iterator[Path]:
    state_home = os.environ.get("XDG_STATE_HOME")
    if state_home and Path(state_home).is_absolute():
        yield Path(state_home) / "sluice-agent"
    else:
        with contextlib.suppress(RuntimeError):  # a user without a home
            yield Path.home() / ".local" / "state" / "sluice-agent"
    own = f"sluice-agent-{os.geteuid()}"
    with contextlib.suppress(FileNotFoundError):  # a read-only root: Python finds no temporary folder
        yield Path(tempfile.gettempdir()) / own
    yield Path("/dev/shm") / own  # noqa: S108 - the last resort; owned and 0700


def _must_be_ours(directory: Path) -> None:
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise JournalUnavailableError(f"{directory} is a symbolic link or no folder")
    if found.st_uid != os.geteuid():
        raise JournalUnavailableError(
            f"{directory} belongs to user {found.st_uid}, this process runs as {os.geteuid()}"
        )


def _make_private(directory: Path) -> None:
    _must_be_ours(directory)
    if stat.S_IMODE(directory.lstat().st_mode) != _PRIVATE_DIRECTORY:
        directory.chmod(_PRIVATE_DIRECTORY)


def _must_take_a_folder(parent: Path) -> None:
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"this user can make no folder in {parent}")


def _refusal(candidate: Path, error: Exception) -> str:
    return f"{candidate}: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _unavailable(refusals: list[str]) -> JournalUnavailableError:
    return JournalUnavailableError(
        f"no folder can be used ({'; '.join(refusals)}): "
        "set SLUICE_STATE_DIR to a folder that this user owns and can write"
    )


def _must_lock(directory: Path) -> None:
    """As far as that can be seen without a new file in it."""
    descriptor = open_private(directory, os.O_RDONLY)
    try:
        try_lock(descriptor, shared=True)
    finally:
        close_locked(descriptor)


def _must_be_usable(directory: Path) -> None:
    """Files can be made in it, and locked: some network file systems can't, and then nobody would ever ship."""
    probe = directory / f".probe-{os.getpid()}"
    descriptor = open_private(probe, os.O_WRONLY | os.O_CREAT)  # it may be there: containers share numbers
    try:
        try_lock(descriptor)
    finally:
        close_locked(descriptor)
        probe.unlink(missing_ok=True)
