"""`make bench`: prints the costs of the agent. ARGS="--tasks 2000 --rounds 1 --pools solo" is a quick measurement.

ARGS="--parts events" measures only the cost of an event in the monitor; the parts are process, tasks, events, server.
ARGS="--compare REV" compares this checkout with a commit; its parts are tasks, events and imports.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks import capture_cost, event_cost, old_and_new, server, task_cost, versions
from tests.benchmarks.comparison import Comparison, table

_PARTS = ("process", "tasks", "events", "server")
_COMPARED_PARTS = ("tasks", "events", "imports")


def main() -> None:
    """Measure, and print the results."""
    options = argparse.ArgumentParser(prog="make bench")
    options.add_argument("--parts", help="parts to measure, comma-separated; default: all")
    options.add_argument("--tasks", type=int, default=1_000, help="tasks per turn")
    options.add_argument("--rounds", type=int, default=9, help="turns of each mode; the medians count")
    options.add_argument("--pools", default="prefork,solo", help="comma-separated")
    options.add_argument("--event-tasks", type=int, default=60_000, help="tasks whose events a monitor receives")
    options.add_argument("--jobs", type=int, default=1_000_000, help="in the database that the server reads")
    options.add_argument("--seconds", type=float, default=60, help="of each measurement of the server")
    options.add_argument("--compare", metavar="REV", help="compare this checkout with the package at this commit")
    options.add_argument("--instances", type=int, default=3, help="workers of each version, with --compare")
    args = options.parse_args()
    known = _PARTS if args.compare is None else _COMPARED_PARTS
    parts = args.parts.split(",") if args.parts else list(known)
    if unknown := [part for part in parts if part not in known]:
        options.error(f"--parts {','.join(unknown)}: there are {', '.join(known)}")
    if args.compare is None:
        _measure(args, parts)
    elif args.instances < 2 or args.rounds < args.instances:
        options.error("--compare needs two --instances, and a --rounds for each: their spread is the noise")
    else:
        try:
            _compare(args, parts)
        except ValueError as error:
            options.error(str(error))


def _measure(args: argparse.Namespace, parts: list[str]) -> None:
    if "process" in parts:
        print("Inside the process, the best of seven runs:")
        for name, microseconds in capture_cost.measure():
            print(f"  {microseconds:6.1f} µs  {name}")
    if "tasks" in parts:
        print(
            f"\nA no-op task on Redis, {args.tasks} tasks a turn, medians of {args.rounds} interleaved turns, "
            "in µs of CPU a task:"
        )
        costs = task_cost.measure(args.pools.split(","), args.tasks, args.rounds, _progress)
        print("\n" + task_cost.report(costs))
    if "events" in parts:
        print(f"\nThe events of {args.event_tasks:,} tasks at full speed, from the broker on, in µs of CPU an event:")
        _progress(event_cost.HEADER)
        event_cost.measure(args.event_tasks, _progress)
    if "server" in parts:
        print(f"\nThe server, its clients on the same {os.cpu_count()} cores, {args.seconds:g} s each:")
        for name, text in server.rows(args.seconds, args.jobs):
            _progress(f"  {name}: {text}")


def _compare(args: argparse.Namespace, parts: list[str]) -> None:
    sizes = old_and_new.Sizes(args.instances, args.rounds, args.tasks, args.event_tasks)
    with tempfile.TemporaryDirectory() as directory:
        pair = versions.old_and_new(args.compare, Path(directory))
        print(f"Old: {pair[0].name}. New: {pair[1].name}. {args.instances} instances of each, {args.rounds} rounds.")
        if "tasks" in parts:
            _report(old_and_new.tasks(pair, args.pools.split(","), sizes, _progress), "µs of CPU a task")
        if "events" in parts:
            _report(old_and_new.events(pair, sizes, _progress), "µs of CPU an event")
        if "imports" in parts:
            _report(old_and_new.imports(pair, sizes), "ms of CPU")


def _report(comparisons: Iterable[tuple[str, Comparison]], unit: str) -> None:
    print("\n" + table(dict(comparisons), unit) + "\n", flush=True)


def _progress(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
