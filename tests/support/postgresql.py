"""A real PostgreSQL, which all processes of a test run share, with a database for each test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from tests.support.process import Process
from tests.support.servers import Server, binary
from tests.support.shared_server import SharedServer, directory_of_run

_DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian has a directory of the server's programs for each version, outside of PATH."""

_OWNER = "postgres"
"""The user that runs the server if the tests run as root: it refuses to."""

_SETTINGS = {
    "fsync": "off",  # a run that ends with the machine has no result
    "full_page_writes": "off",
    "max_connections": "200",
}


class PostgresqlServer(Server):
    """A PostgreSQL over a new directory, which its owner can enter: pytest's directories are for its own user only."""

    name = "postgresql"
    start_seconds = 5
    stop_seconds = 5

    def __init__(self, directory: Path, settings: Mapping[str, str] = _SETTINGS) -> None:
        self._settings = {"unix_socket_directories": "", **settings}
        self._data = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._as_owner: list[str] = []
        if not os.geteuid():
            owner = pwd.getpwnam(_OWNER)
            os.chown(self._data, owner.pw_uid, owner.pw_gid)
            identity = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            self._as_owner = [binary("setpriv"), *identity]
        initdb = [_program("initdb"), "-D", str(self._data), "-U", _OWNER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*self._as_owner, *initdb, "--no-sync"], check=True, capture_output=True, cwd="/")
        super().__init__(directory)

    def url(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return postgresql_url(self.port, database)

    def close(self) -> None:
        """End it, and remove its directory."""
        super().close()
        shutil.rmtree(self._data, ignore_errors=True)

    def serves(self) -> bool:
        """Return whether it accepts connections: while it starts, it refuses them."""
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _spawn(self, log: Path) -> Process:
        settings = [argument for name, value in self._settings.items() for argument in ("-c", f"{name}={value}")]
        server = [_program("postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), *settings]
        return Process([*self._as_owner, *server], log, cwd=Path("/"))


def shared_postgresql(base: Path) -> SharedServer:
    """Return the PostgreSQL of the test run; `base` is pytest's directory of this process."""
    directory = directory_of_run(base) / "postgresql"
    return SharedServer(directory, lambda: PostgresqlServer(directory))


@contextmanager
def new_database(port: int) -> Iterator[str]:
    """Make a database, and yield its address. It is dropped afterwards, whoever still uses it."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgresql_url(port, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield postgresql_url(port, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def postgresql_url(port: int, database: str) -> str:
    """Return the address of a database of the server at `port`."""
    return f"postgresql://{_OWNER}@127.0.0.1:{port}/{database}"


def _program(name: str) -> str:
    newest = sorted(_DEBIAN.glob("*/bin"))[-1:]
    return shutil.which(name, path=str(*newest)) or binary(name)
