"""`make bench`: prints what the agent costs. ARGS="--tasks 2000 --rounds 1 --pools solo" for a quick look.

ARGS="--parts events" measures only what an event costs the monitor; the parts are process, task and events.
"""

from __future__ import annotations

import argparse

from tests.benchmarks import capture_cost, event_cost, task_cost


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(prog="make bench")
    options.add_argument("--parts", default="process,task,events", help="what to measure, comma-separated")
    options.add_argument("--tasks", type=int, default=1_000, help="tasks in a turn")
    options.add_argument("--rounds", type=int, default=9, help="turns of each; the medians count")
    options.add_argument("--pools", default="prefork,solo", help="comma-separated")
    options.add_argument("--event-tasks", type=int, default=60_000, help="tasks whose events a monitor gets")
    args = options.parse_args()
    parts = args.parts.split(",")
    if "process" in parts:
        print("Inside the process, the best of seven runs:")
        for what, microseconds in capture_cost.measure():
            print(f"  {microseconds:6.1f} µs  {what}")
    if "task" in parts:
        print(
            f"\nA no-op task on Redis, {args.tasks} tasks a turn, medians of {args.rounds} interleaved turns, "
            "in µs of CPU a task:"
        )
        costs = task_cost.measure(args.pools.split(","), args.tasks, args.rounds, _say)
        print("\n" + task_cost.report(costs))
    if "events" in parts:
        print(f"\nThe events of {args.event_tasks:,} tasks at full speed, from the broker on, in µs of CPU an event:")
        _say(event_cost.HEAD)
        event_cost.measure(args.event_tasks, _say)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
