"""`make bench`: prints what the agent costs. ARGS="--tasks 2000 --rounds 1 --pools solo" for a quick look."""

from __future__ import annotations

import argparse

from tests.benchmarks import capture_cost, task_cost


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(prog="make bench")
    options.add_argument("--tasks", type=int, default=1_000, help="tasks in a turn")
    options.add_argument("--rounds", type=int, default=9, help="turns of each; the medians count")
    options.add_argument("--pools", default="prefork,solo", help="comma-separated")
    args = options.parse_args()
    print("Inside the process, the best of seven runs:")
    for what, microseconds in capture_cost.measure():
        print(f"  {microseconds:6.1f} µs  {what}")
    print(
        f"\nA no-op task on Redis, {args.tasks} tasks a turn, medians of {args.rounds} interleaved turns, "
        "in µs of CPU a task:"
    )
    costs = task_cost.measure(
        args.pools.split(","), args.tasks, args.rounds, lambda line: print(f"  {line}", flush=True)
    )
    print("\n" + task_cost.report(costs))


if __name__ == "__main__":
    main()
