"""A real Redis and a real RabbitMQ, each a process of the test run on loopback."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import Process, free_port, listens
from tests.support.waiting import wait_until

_DEBIAN_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's `rabbitmq-server` on the PATH changes user and session; it calls this script, the server's own."""


def binary(name: str) -> str:
    """Return the path of a server's program; fail the test with advice if it is absent."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/bin")
    if path is None:
        pytest.fail(f"{name} is needed: run scripts/servers.sh or apt-get install {name}", pytrace=False)
    return path


class Server:
    """The base of both servers: a directory, a port that stays the same, and an end without left-over processes."""

    name: str
    start_seconds: float
    stop_seconds: float

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: Process | None = None
        self.start()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def start(self) -> None:
        """Start on the same port as before and wait until it serves."""
        if self.running:
            return
        self.process = process = self._spawn(self.directory / f"{self.name}.log")

        def serves() -> bool:
            if not process.running:
                pytest.fail(f"{self.name} ended with {process.exit_code}\n{process.tail()}", pytrace=False)
            return self.serves()

        wait_until(serves, self.start_seconds, f"{self.name} did not start", process.tail)

    def serves(self) -> bool:
        """Return whether clients can connect."""
        return listens(self.port)

    def logs(self) -> str:
        return self.process.logs() if self.process else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the server and, if the signal ends processes, wait for its end."""
        if self.process is None:
            return
        self.process.send(number)
        if number in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}:
            self.process.wait(self.stop_seconds)
            self.process.stop()

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stop it, and start it again at the end, so that it is there for the next test even if this one fails."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def stop(self) -> None:
        """End it gracefully, or by SIGKILL if that takes too long."""
        if self.process is not None:
            self.process.stop(self.stop_seconds)

    def close(self) -> None:
        """End it at once, for good."""
        if self.process is not None:
            self.process.stop()

    def _spawn(self, log: Path) -> Process:
        raise NotImplementedError


class RedisServer(Server):
    """Redis without persistence, with thousands of databases, so that each test has its own."""

    name = "redis-server"
    start_seconds = 10.0
    stop_seconds = 5.0
    databases = 10_000

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def options(self) -> dict[str, object]:
        """Return the server's options, by their names in its configuration."""
        return {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.directory,
            "databases": self.databases,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }

    def _spawn(self, log: Path) -> Process:
        command = [binary(self.name)]
        for name, value in self.options().items():
            command += [f"--{name}", str(value)]
        return Process(command, log)


class RabbitMQServer(Server):
    """A RabbitMQ node with its own name, data, cookie and epmd, which listens on loopback only."""

    name = "rabbitmq-server"
    start_seconds = 60.0
    stop_seconds = 20.0
    plugins: tuple[str, ...] = ()
    conf = ""
    """Additional lines of its configuration."""

    def __init__(self, directory: Path) -> None:
        self.epmd_port = free_port()
        self.dist_port = free_port()
        self.epmd: Process | None = None
        super().__init__(directory)

    def url(self, vhost: str = "/") -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def serves(self) -> bool:
        return "Server startup complete" in self.logs() and listens(self.port)

    def stop(self) -> None:
        super().stop()
        self._stop_epmd()

    def close(self) -> None:
        super().close()
        self._stop_epmd()

    def _stop_epmd(self) -> None:
        if self.epmd is not None:
            self.epmd.stop()

    def _spawn(self, log: Path) -> Process:
        program = binary(self.name)
        if _DEBIAN_RABBITMQ.exists():
            program = str(_DEBIAN_RABBITMQ)
        log.unlink(missing_ok=True)  # `serves` reads it
        env = self._environment()
        if self.epmd is None or not self.epmd.running:
            command = [binary("epmd"), "-port", str(self.epmd_port), "-address", "127.0.0.1"]
            self.epmd = epmd = Process(command, self.directory / "epmd.log")
            wait_until(lambda: listens(self.epmd_port), 10, "epmd did not start", epmd.tail)
        return Process([program], log, env, self.directory)

    def _environment(self) -> dict[str, str]:
        """Return an environment in which the node shares nothing with an installed one."""
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.console = true\nlog.console.level = info\nlog.file = false\n"
            "vm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 10MB\n"
            f"{self.conf}\n"
        )
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        (self.directory / "env.conf").write_text("")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return {
            **inherited,
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"sluice{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.directory / "rabbitmq.pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.directory / "config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false "
                "+sbwt none +sbwtdcpu none +sbwtdio none"  # idle schedulers sleep: the machine is small
            ),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the Erlang machine, without a shell around it
        }
