"""The page of benchmarks: sections, each with the command, the machine and the date of its figures.

A run replaces the sections of the parts that it measured and keeps the others, so a page may be measured part by part.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.benchmarks.plots import Plot
from tests.benchmarks.tables import Table
from tests.support.process import ROOT

INTRODUCTION = """\
# Benchmarks

What sluice-agent costs, beside a Celery without it and beside other tools. `make bench` measured everything on this
page and wrote it: each section has the command that measures it again, the machine, the versions and the date. A part
without a section was not measured yet.
`make bench ARGS=--small` shows in minutes that every part runs, and `make bench ARGS="--compare REV"` compares two
versions of the agent.

How to read it:

- Figures of a task are CPU time of all threads of all processes, shipping included, from the scheduler's accounts. The
  broker and the endpoint are not counted.
- Several instances of each variant run side by side on one broker, in turns, in an order that is reversed each round.
  Two equal processes differ by their memory layout for their whole life: the noise behind ± is half the 95 % confidence
  interval from the spread between instances. A difference below it shows nothing.
- Minima are what the code costs on an idle machine, medians what it costs while others work. Both are means over
  instances.
- Compare columns of one table, not tables of two days: machines have fast and slow hours.
"""
_SECTION = re.compile(r"^<!-- part (\w+) -->\n(.*?)(?=^<!-- part |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """What a part has measured: paragraphs, tables and plots, in this order."""

    title: str
    paragraphs: Sequence[str]
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where and when a section was measured, and by which command."""

    command: str
    is_full: bool
    revision: str
    machine: str
    load: float
    date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
        lines = [
            (
                f"`{self.command}`, {self.date:%Y-%m-%d %H:%M} UTC, at commit {self.revision}, Python "
                f"{platform.python_version()}, {versions}; {self.machine}, where {self.load:.1f} processes ran before."
            )
        ]
        if not self.is_full:
            lines.append("**Not the full size: these figures show that the part runs, and no more.**")
        return "\n\n".join(lines)


def circumstances(command: str, *, is_full: bool) -> Circumstances:
    """Return those of a section that is measured next."""
    return Circumstances(command, is_full, _revision(), _machine(), os.getloadavg()[0])


def _revision() -> str:
    git = ["git", "-C", str(ROOT)]
    revision = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changes = subprocess.run([*git, "status", "--porcelain", "sluice_agent"], capture_output=True, check=False)
    if revision.returncode:
        return "unknown"
    return revision.stdout.strip() + (" with changes" if changes.stdout else "")


def _machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {re.match(r'[0-9.]*[0-9]', platform.release())[0]}"  # type: ignore[index]
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}, {memory:.0f} GB, {system}"


def write(page: Path, part: str, section: Section, measured: Circumstances, parts: Sequence[str]) -> None:
    """Put a section into the page, in the order of `parts`, and its plots into the directory that is named like it."""
    kept = sections(page.read_text(encoding="utf-8")) if page.exists() else {}
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for picture in pictures.glob(f"{part}-*.svg"):
        picture.unlink()
    for plot in section.plots:
        plot.write(pictures / f"{part}-{plot.name}.svg")
    links = [f"![{plot.title}]({pictures.name}/{part}-{plot.name}.svg)" for plot in section.plots]
    blocks = [f"## {section.title}", str(measured), *section.paragraphs]
    blocks += [*(table.markdown() for table in section.tables), *links]
    kept[part] = "\n\n".join(blocks)
    texts = [f"<!-- part {name} -->\n{kept[name].strip()}\n" for name in parts if name in kept]
    page.write_text("\n".join([INTRODUCTION, *texts]), encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Return the sections of a page, by their parts."""
    return dict(_SECTION.findall(text))
