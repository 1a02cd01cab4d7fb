"""`make bench`: measures what everything costs, and writes the page of benchmarks, and the costs in the README.

ARGS=--small shows in minutes that all parts run, and writes its page below build/. ARGS="--parts tasks,delay" measures
parts, and replaces only their sections. ARGS="--compare REV" compares this checkout with a commit, and writes no page.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks import costs, old_and_new, page, versions
from tests.benchmarks.comparison import Comparison, table
from tests.benchmarks.parts import PARTS
from tests.benchmarks.sizes import COMPARED, FULL, SMALL, Sizes
from tests.support.process import ROOT

_COMPARED_PARTS = ("tasks", "events", "imports")
_OVERRIDDEN = ("instances", "rounds", "tasks", "event_tasks", "flower_tasks", "seconds", "jobs")


def main() -> None:
    """Measure, and print and write the results."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("make bench: ended by SIGTERM"))  # what it started ends too
    _write_byte_code()
    options = _options()
    args = options.parse_args()
    known = list(PARTS) if args.compare is None else list(_COMPARED_PARTS)
    parts = args.parts.split(",") if args.parts else known
    if unknown := [part for part in parts if part not in known]:
        options.error(f"--parts {','.join(unknown)}: there are {', '.join(known)}")
    sizes = _sizes(args)
    if sizes.instances < 2 or sizes.rounds < sizes.instances:
        options.error("two --instances are needed, and a --rounds for each: their spread is the noise")
    if args.compare is None:
        _measure(sizes, parts, args.page, _command(args))
        return
    try:
        _compare(args.compare, sizes, parts)
    except ValueError as error:
        options.error(str(error))


def _write_byte_code() -> None:
    """Give the package the byte code that an installed one has, and let the processes that are measured write theirs.

    Where the environment forbids it, each process would compile what it imports, and the cost be taken for the agent's.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(ROOT / "sluice_agent", quiet=2)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="make bench")
    options.add_argument("--small", action="store_true", help="small sizes: shows that everything runs, and no more")
    options.add_argument("--parts", help="parts to measure, comma-separated; default: all")
    options.add_argument(
        "--page", type=Path, help="default: docs/benchmarks.md, or below build/ in other than full size"
    )
    options.add_argument("--compare", metavar="REV", help="compare this checkout with the package at this commit")
    options.add_argument("--pools", help="comma-separated")
    options.add_argument("--instances", type=int, help="of each variant or version")
    options.add_argument("--rounds", type=int, help="turns of each instance")
    options.add_argument("--tasks", type=int, help="tasks a turn")
    options.add_argument("--event-tasks", type=int, help="tasks whose events a monitor receives")
    options.add_argument("--flower-tasks", type=int, help="tasks that Flower and the server show")
    options.add_argument("--seconds", type=float, help="of each measurement of the server")
    options.add_argument("--jobs", type=int, help="in the database that the server reads")
    return options


def _sizes(args: argparse.Namespace) -> Sizes:
    base = SMALL if args.small else FULL if args.compare is None else COMPARED
    given = {name: value for name in _OVERRIDDEN if (value := getattr(args, name)) is not None}
    if args.pools:
        given["pools"] = tuple(args.pools.split(","))
    return dataclasses.replace(base, **given)


def _command(args: argparse.Namespace) -> str:
    """Return the options by which the sizes were chosen, each with a space after it."""
    chosen = {name: getattr(args, name) for name in ("pools", *_OVERRIDDEN)}
    options = ["--small"] if args.small else []
    options += [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value is not None]
    return "".join(f"{option} " for option in options)


def _measure(sizes: Sizes, parts: list[str], path: Path | None, options: str) -> None:
    is_full = sizes == FULL
    target = (path or (costs.PAGE if is_full else ROOT / "build" / costs.PAGE.name)).absolute()
    minutes = {name: PARTS[name].seconds(sizes) / 60 for name in parts}
    estimates = ", ".join(f"{name} {each:.0f}" for name, each in minutes.items())
    print(f"This takes about {sum(minutes.values()):.0f} minutes on a quiet machine: {estimates}.", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in parts:
        print(f"\n{name}:", flush=True)
        measured = page.circumstances(f'make bench ARGS="{options}--parts {name}"', is_full=is_full)
        section = PARTS[name].measure(sizes, _progress)
        for each in section.tables:
            print(f"\n{each.text()}", flush=True)
        page.write(target, name, section, measured, list(PARTS))
    print(f"\nWritten: {target.relative_to(ROOT) if target.is_relative_to(ROOT) else target}")
    if target == costs.PAGE:
        costs.main()
        print("Written: what README.md says of costs")


def _compare(revision: str, sizes: Sizes, parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pair = versions.old_and_new(revision, Path(directory))
        print(f"Old: {pair[0].name}. New: {pair[1].name}. {sizes.instances} instances of each, {sizes.rounds} rounds.")
        if "tasks" in parts:
            _report(old_and_new.tasks(pair, sizes, _progress), "µs of CPU a task")
        if "events" in parts:
            _report(old_and_new.events(pair, sizes, _progress), "µs of CPU an event")
        if "imports" in parts:
            _report(old_and_new.imports(pair, sizes), "ms of CPU")


def _report(comparisons: Iterable[tuple[str, Comparison]], unit: str) -> None:
    print(f"\n{table(dict(comparisons), unit).text()}\n", flush=True)


def _progress(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
