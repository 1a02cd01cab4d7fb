"""What the README says of costs, from the figures of the page of benchmarks: what was not measured has no line.

`make bench` writes it when it has written that page; `python -m tests.benchmarks.costs` does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks.page import sections
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import AGENT, BARE, EVENTS, PEERS
from tests.support.process import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- costs, from docs/benchmarks.md -->\n", "<!-- end -->\n"
NAMES = {
    BARE.name: "Celery alone",
    AGENT.name: "**sluice-agent**",
    EVENTS.name: "Celery's own events, `-E`",
    **{peer.name: peer.name for peer in PEERS},
    "sluice-celery": "the vendor's SDK",
}
"""The rows of the table of tasks, and what the README calls them."""

Rows = Mapping[str, list[str]]
"""The other cells of each row, by its first."""


def main() -> None:
    """Write the costs into the README."""
    text = with_costs(README.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8"))
    README.write_text(text, encoding="utf-8")


def with_costs(readme: str, page: str) -> str:
    """Return the README with what is between its marks written anew."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README has no {BEGIN.strip()} with its {END.strip()}")
    measured = sections(page)
    written = [write(measured[part]) for part, write in _PARTS.items() if part in measured]
    return "".join([before, begin, *written, end, after])


def _tasks(section: str) -> str:
    rows = _rows(section, "µs of CPU a task")
    pools = list(dict.fromkeys(name.partition(", ")[0] for name in rows))
    lines = []
    for variant, name in NAMES.items():
        costs = [rows.get(f"{pool}, {variant}") for pool in pools]
        if all(costs):
            lines.append([name, *(cost[0] if variant == BARE.name else cost[1] for cost in costs if cost)])
    table = Table(["µs of CPU for a no-op task, of worker and producer, and what each adds", *pools], lines)
    return f"{table.markdown()}\n\n"


def _delay(section: str) -> str:
    rows = _rows(section, "µs of a call")
    alone, agent = rows[BARE.name], rows[AGENT.name]
    return (
        f"- `delay()` takes {alone[0]} µs, and {agent[1]} µs with the agent; the 99th percentile is {alone[4]} µs, and "
        f"{agent[5]} µs.\n"
    )


def _instructions(section: str) -> str:
    if "Left out" in section:
        return ""  # no valgrind
    rows = _rows(section, "a task")
    alone, agent = (float(rows[name][0].replace(",", "")) for name in (BARE.name, AGENT.name))
    return (
        f"- Counted by instructions, where no machine is noisy, a task has {100 * (agent / alone - 1):.1f} % more: "
        f"{(agent - alone) / 1e3:,.0f} thousand beside {alone / 1e3:,.0f} thousand.\n"
    )


def _imports(section: str) -> str:
    rows = _rows(section, "step")
    importing, installing, modules, memory = ((median, never) for _, median, _, never in rows.values())
    return (
        f"- At the start of a process `import sluice_agent` takes {importing[0]} ms and `install()` {installing[0]}, "
        f"and both bring {modules[0]} modules and {memory[0]} MB. Where another process ships, `install()` takes "
        f"{installing[1]} ms, and both bring {modules[1]} modules and {memory[1]} MB.\n"
    )


_PARTS: Mapping[str, Callable[[str], str]] = {
    "tasks": _tasks,
    "delay": _delay,
    "instructions": _instructions,
    "imports": _imports,
}


def _rows(section: str, header: str) -> Rows:
    """Return the rows of the table whose header begins so."""
    _, found, table = section.partition(f"| {header} |")
    if not found:
        raise ValueError(f"no table of the page begins with {header}")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {name: others for name, *others in cells}


if __name__ == "__main__":
    main()
