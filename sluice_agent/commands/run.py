"""``sluice-agent run -- COMMAND``: a try of the agent, with a local Sluice that ends with the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sluice_agent.commands.common import UserError
from sluice_agent.commands.logs import log_to_stderr
from sluice_agent.commands.run_directory import run_directory
from sluice_agent.settings import PREFIX
from sluice_agent.transport.delivery.destinations import DESTINATIONS
from sluice_agent.transport.journal.accounting import accounts
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.directory import find_directory

_AUTO = "sluice_agent.auto"
_LOOPBACK = "127.0.0.1,localhost"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_NOT_FOUND, _NOT_EXECUTABLE, _SIGNALLED = 127, 126, 128  # exit codes, as of a shell


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--port", default=0, show_default="any free port", type=click.IntRange(0, 65_535), help="Of the page.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(port: int, command: tuple[str, ...]) -> None:
    """Run a command, such as celery -A app worker, with a throwaway local Sluice and its page.

    Nothing else is to be set: the command gets the variables that it needs, and a Celery worker the agent too. Other
    programs must call sluice_agent.install(). When the command ends, the page and its data are gone.
    """
    log_to_stderr("text", "warning")
    with run_directory() as (directory, lock), _server(directory, port) as server:
        environment = {**server.environment, "SLUICE_STATE_DIR": str(directory / "journal")}
        instrumented = with_agent(command)
        _echo(f"the page, until this command ends: {server.page}", _exports(environment), " ".join(instrumented))
        code = _supervise(instrumented, child_environment(os.environ, environment), lock)
        _echo(_summary(environment))
    sys.exit(code)


def with_agent(command: Iterable[str]) -> list[str]:
    """Return the command; that of a Celery worker also imports the agent, beside what it already includes."""
    words = list(command)
    names = [Path(word).name for word in words]
    if "worker" not in words or "celery" not in names[: words.index("worker")]:
        return words
    for position, word in enumerate(words):
        if word in ("-I", "--include") and position + 1 < len(words):
            words[position + 1] += f",{_AUTO}"
            return words
        if word.startswith("--include="):
            words[position] += f",{_AUTO}"
            return words
    return [*words, "-I", _AUTO]


def child_environment(inherited: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the command: nothing of it reaches a real destination, or passes a proxy."""
    variables = {destination.key_variable for destination in DESTINATIONS}
    variables |= {destination.url_variable for destination in DESTINATIONS}
    variables |= {f"{PREFIX}{name}" for name in ("BASE_URL", "ENABLED", "SHIP")}
    kept = {name: value for name, value in inherited.items() if name not in variables}
    proxied = {name: f"{kept[name]},{_LOOPBACK}" if kept.get(name) else _LOOPBACK for name in ("NO_PROXY", "no_proxy")}
    return {**kept, **proxied, **own}


@dataclass(frozen=True, slots=True)
class _Server:
    """The local Sluice: the address of its pages, and the variables of a worker."""

    page: str
    environment: Mapping[str, str]


@contextmanager
def _server(directory: Path, port: int) -> Iterator[_Server]:
    """Run a local Sluice in a thread: it ends with this process, whatever ends that."""
    try:
        from sluice_agent.server import runner  # noqa: PLC0415 - an extra: the other commands work without it
    except ImportError as error:
        raise UserError(f"run needs its extra: pip install 'sluice-agent[server]' ({error})") from None
    started, stopping = threading.Event(), threading.Event()
    announced: list[Any] = []
    failed: list[BaseException] = []

    def ready(announcement: runner.Announcement) -> None:
        announced.append(announcement)
        started.set()

    def serve() -> None:
        try:
            runner.serve(database=directory / "sluice.db", port=port, grace=1, ready=ready, stopping=stopping)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=serve, name="sluice-run-server", daemon=True)
    thread.start()
    started.wait(_START_SECONDS)
    if failed:
        raise failed[0]
    if not announced:
        raise UserError(f"the local Sluice has not started within {_START_SECONDS:g} s")
    url = announced[0].url
    try:
        yield _Server(url.removesuffix("/api") + "/", announced[0].environment)
    finally:
        stopping.set()
        thread.join(_STOP_SECONDS)


def _supervise(command: list[str], environment: Mapping[str, str], lock: int) -> int:
    """Run the command until it ends, and return its exit code. A signal to stop is passed on to it."""
    with _guard() as guard:
        try:
            process = subprocess.Popen(command, env=dict(environment), pass_fds=[lock])  # noqa: S603 - the user's own
        except FileNotFoundError:
            _echo(f"{command[0]} is not found: is its virtual environment active?")
            return _NOT_FOUND
        except OSError as error:
            _echo(f"{command[0]} can't be run: {error.strerror}")
            return _NOT_EXECUTABLE
        guard(process.pid)

        def pass_on(number: int, _frame: object) -> None:
            if number != signal.SIGINT or not sys.stdin.isatty():  # a terminal sends Ctrl-C to the command as well
                with suppress(ProcessLookupError):
                    process.send_signal(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        code = process.wait()
    return code if code >= 0 else _SIGNALLED - code


@contextmanager
def _guard() -> Iterator[Callable[[int], object]]:
    """Yield what has a process end by SIGTERM if this one is killed: a shell sees the end of a pipe from here."""
    script = 'read -r pid && { read -r ended || kill "$pid"; }'
    output, pipe = os.pipe()
    shell = subprocess.Popen(["/bin/sh", "-c", script], stdin=output, start_new_session=True)  # noqa: S603
    os.close(output)
    try:
        yield lambda pid: os.write(pipe, b"%d\n" % pid)
    finally:
        with suppress(BrokenPipeError):  # the shell was killed
            os.write(pipe, b"ended\nended\n")  # also where it was given no process
        os.close(pipe)
        shell.wait()


def _summary(environment: Mapping[str, str]) -> str:
    directory = find_directory(Path(environment["SLUICE_STATE_DIR"]), environment["SLUICE_CONNECTION_ID"])
    stats = accounts(directory, load_cursor(cursor_path(directory, DESTINATIONS[0].name)))
    if not stats["captured"]:
        return "no event was captured: the command ran no Celery worker, and did not call sluice_agent.install()"
    lost = sum(stats["dropped"].values())
    return (
        f"captured {stats['captured']:,} events = delivered {stats['delivered']:,} + rejected {stats['rejected']:,} + "
        f"dropped {lost:,} + pending {stats['pending']:,}; the page and its data are gone"
    )


def _exports(environment: Mapping[str, str]) -> str:
    lines = (f"export {name}={value}" for name, value in environment.items())
    return "\n".join(["for programs in other terminals that call tasks:", *lines])


def _echo(*texts: str) -> None:
    for text in texts:
        click.echo(f"sluice-agent run: {text}", err=True)
