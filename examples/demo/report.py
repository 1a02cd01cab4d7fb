"""The demo's report, in 100 columns."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from examples.demo.server_data import FINAL, Counters, Job, parse_time

COLOURS = {"completed": 32, "failed": 31, "cancelled": 33, "retrying": 35, "active": 36, "bold": 1, "dim": 2}
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ
WIDTH = 99


def paint(text: str, colour: str) -> str:
    """Return ``text`` in a colour, if the output has colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if COLOURED and colour in COLOURS else text


def table(jobs: Iterable[Job]) -> str:
    """Return one line per task: its jobs by final state, and their waiting and running times."""
    by_task: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_task[job.name].append(job)
    all_jobs = [job for task in by_task.values() for job in task]
    columns = f"{'task':<28}{'jobs':>5}{'completed':>11}{'failed':>8}{'cancelled':>11}"
    return "\n".join(
        [
            f"{'':<63}{'waited':>18}{'ran':>18}",
            paint(columns + f"{'p50':>9}{'p95':>9}" * 2, "bold"),
            "─" * WIDTH,
            *(_row(name, by_task[name]) for name in sorted(by_task)),
            "─" * WIDTH,
            _row("all", all_jobs),
        ]
    )


def timeline(title: str, job: dict[str, Any]) -> str:
    """Return the states of one job over time, and its error."""
    history = job["stateHistory"]
    start = parse_time(history[0]["timestamp"])
    lines = [f"{paint(title, 'bold')}: {job['name']} {job['externalId']}"]
    for step in history:
        at = parse_time(step["timestamp"])
        elapsed = duration((at - start).total_seconds() * 1000)
        lines.append(
            f"   {at:%H:%M:%S}.{at.microsecond // 1000:03}  {'+' + elapsed:>9}  {paint(step['state'], step['state'])}"
        )
    if job.get("error"):
        lines.append(f"   {paint(cut(job['error'], WIDTH - 3), 'failed')}")
    return "\n".join(lines)


def went_through(job: dict[str, Any], state: str) -> bool:
    """Return whether a job was in this state."""
    return any(step["state"] == state for step in job["stateHistory"])


def invariant(counters: Counters) -> str:
    """Return the equation of the agent's counters: no event is lost silently."""
    dropped = sum(counters.dropped.values())
    reasons = "".join(f", {reason} {count:,}" for reason, count in counters.dropped.items() if count)
    return (
        f"captured {counters.captured:,} {'=' if counters.add_up else '≠'} delivered {counters.delivered:,}"
        f" + rejected {counters.rejected:,} + dropped {dropped:,} + pending {counters.pending:,}{reasons}"
    )


def duration(ms: float | None) -> str:
    """Return milliseconds in readable form."""
    if ms is None:
        return "–"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:.2f} s"


def cut(text: str, width: int) -> str:
    """Return the first line of ``text``, at most ``width`` characters wide."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= width else line[: width - 1] + "…"


def _row(name: str, jobs: list[Job]) -> str:
    counts = [sum(job.state == state for job in jobs) for state in FINAL]
    cells = [
        paint(f"{count or '·':>{width}}", state if count else "dim")
        for state, count, width in zip(FINAL, counts, (11, 8, 11), strict=True)
    ]
    times = [
        _percentile([ms for job in jobs if (ms := getattr(job, field)) is not None], at)
        for field in ("wait_ms", "run_ms")
        for at in (0.5, 0.95)
    ]
    return f"{cut(name, 27):<28}{len(jobs):>5}" + "".join(cells) + "".join(f"{duration(ms):>9}" for ms in times)


def _percentile(values: list[float], at: float) -> float | None:
    """Return the smallest value that a share ``at`` of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-at * len(ordered) // 1) - 1)] if ordered else None
