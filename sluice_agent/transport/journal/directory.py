"""The journal's directory: its possible paths, its owner, and the names of its files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.journal.flock import close_locked, try_lock

FORMAT = "v1"

_SUFFIX = ".ndjson"
_PRIVATE_DIRECTORY = 0o700


@dataclass(frozen=True, slots=True)
class SegmentName:
    """The name of a segment: its creation in nanoseconds since 1970, its lane, and the process that writes it.

    Names sort by their time. `writer_id` separates processes with the same `pid`, in different containers.
    """

    time: int
    lane: str
    pid: int
    writer_id: str

    def __str__(self) -> str:
        return f"{self.time:020d}-{self.lane}-{self.pid}-{self.writer_id}.{FORMAT}{_SUFFIX}"

    @classmethod
    def parse(cls, name: str) -> SegmentName:
        """Return the parts of `name`. Raises ValueError if it is not a segment's in this version's format."""
        stem = name.removesuffix(f".{FORMAT}{_SUFFIX}")
        time, lane, pid, writer_id = stem.split("-")
        if stem == name:
            raise ValueError(f"{name} is in another format")
        return cls(int(time), lane, int(pid), writer_id)


def open_directory(state_dir: Path | None, name: str) -> Path:
    """Return the private directory `name` (a connection's id) in the state directory; create it where it is absent.

    `state_dir` is the user's choice; without one it is the first candidate that can be written: the XDG state
    directory, the temporary directory, shared memory. Raises `JournalUnavailableError` with the reason and the remedy.
    """
    refusals = []
    for candidate in [state_dir] if state_dir else _candidates():
        try:
            directory = candidate / name
            candidate.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            if state_dir is None:  # its name can be guessed: another user who owns it could replace its content
                _make_private(candidate)
            directory.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
            _make_private(directory)
            _check_usable(directory)
        except (OSError, JournalUnavailableError) as error:
            refusals.append(_refusal(candidate, error))
        else:
            return directory
    raise _unavailable(refusals)


def find_directory(state_dir: Path | None, name: str) -> Path:
    """Return the directory that `open_directory` has created, or would create. Creates and changes nothing.

    Raises `JournalUnavailableError` where this user owns none, and none could be created.
    """
    refusals = []
    first_usable = None
    for candidate in [state_dir] if state_dir else _candidates():
        directory = candidate / name
        try:
            if state_dir is None and os.path.lexists(candidate):
                _check_owner(candidate)
            if os.path.lexists(directory):
                _check_owner(directory)
                _check_lockable(directory)
                return directory
            _check_can_create(nearest_existing(directory))
        except (OSError, JournalUnavailableError) as error:
            refusals.append(_refusal(candidate, error))
        else:
            first_usable = first_usable or directory
    if first_usable is None:
        raise _unavailable(refusals)
    return first_usable


def nearest_existing(path: Path) -> Path:
    """Return `path`, or its nearest parent that exists."""
    return next(parent for parent in (path, *path.parents) if os.path.lexists(parent))


def journal_files(directory: Path, lane: str | None = None) -> list[str]:
    """Return the names of the journal's segments, the oldest first. Links, directories and pipes are left out."""
    return sorted(entry.name for name, entry in _segments(directory) if lane is None or name.lane == lane)


def count_writers(names: Iterable[str]) -> int:
    """Return the number of writers of these segments: one a process and lane."""
    parsed = map(SegmentName.parse, names)
    return len({(name.lane, name.pid, name.writer_id) for name in parsed})


def other_versions(directory: Path) -> list[str]:
    """Return the files of the journal in another version's format: this version neither reads nor removes them."""
    own = f".{FORMAT}{_SUFFIX}"
    try:
        return sorted(path.name for path in directory.glob(f"*{_SUFFIX}") if not path.name.endswith(own))
    except OSError:
        return []


def directory_bytes(directory: Path) -> int:
    """Return the total size of the journal's segments in bytes."""
    return sum(file_sizes(directory).values())


def file_sizes(directory: Path, lane: str | None = None) -> dict[str, int]:
    """Return the present sizes of the journal's segments in bytes, by name, the oldest first."""
    sizes = {}
    for name, entry in _segments(directory):
        if lane is None or name.lane == lane:
            with contextlib.suppress(FileNotFoundError):
                sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(sizes.items()))


def open_private(path: Path, flags: int) -> int:
    """Open a file that only this user can read: never through a symbolic link, and closed in executed programs."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check_directory(directory: Path) -> None:
    """Raise OSError if this user does not own `directory`: another user may have removed and replaced it."""
    try:
        _make_private(directory)
    except JournalUnavailableError as error:
        raise PermissionError(errno.EPERM, str(error)) from error


def _segments(directory: Path) -> Iterator[tuple[SegmentName, os.DirEntry[str]]]:
    """Yield the journal's segments in the directory's order, as entries: paths would cost more than the listing."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(ValueError):  # a cursor, a lock, or a draft, whose name begins with a dot
                    name = SegmentName.parse(entry.name)
                    if entry.is_file(follow_symlinks=False):
                        yield name, entry
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
    with contextlib.suppress(FileNotFoundError):  # a read-only root: Python finds no temporary directory
        yield Path(tempfile.gettempdir()) / own
    yield Path("/dev/shm") / own  # noqa: S108 - the last resort; owned and 0700


def _check_owner(directory: Path) -> None:
    status = directory.lstat()
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        raise JournalUnavailableError(f"{directory} is a symbolic link or not a directory")
    if status.st_uid != os.geteuid():
        raise JournalUnavailableError(
            f"{directory} belongs to user {status.st_uid}, this process runs as {os.geteuid()}"
        )


def _make_private(directory: Path) -> None:
    _check_owner(directory)
    if stat.S_IMODE(directory.lstat().st_mode) != _PRIVATE_DIRECTORY:
        directory.chmod(_PRIVATE_DIRECTORY)


def _check_can_create(parent: Path) -> None:
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"this user can't create a directory in {parent}")


def _refusal(candidate: Path, error: Exception) -> str:
    return f"{candidate}: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _unavailable(refusals: list[str]) -> JournalUnavailableError:
    return JournalUnavailableError(
        f"no directory can be used for the journal ({'; '.join(refusals)}): "
        "set SLUICE_STATE_DIR to a directory that this user owns and can write"
    )


def _check_lockable(directory: Path) -> None:
    """Check that the directory can be locked, as far as that is possible without a new file in it."""
    descriptor = open_private(directory, os.O_RDONLY)
    try:
        try_lock(descriptor, shared=True)
    finally:
        close_locked(descriptor)


def _check_usable(directory: Path) -> None:
    """Check that files can be created and locked: some network file systems lock none, and no process would ship."""
    probe = directory / f".probe-{os.getpid()}"
    descriptor = open_private(probe, os.O_WRONLY | os.O_CREAT)  # may exist: containers share process ids
    try:
        try_lock(descriptor)
    finally:
        close_locked(descriptor)
        probe.unlink(missing_ok=True)
